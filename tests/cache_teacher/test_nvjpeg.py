"""Stage one with images decoded by a GPU. A CPU stands in for it."""

import multiprocessing

import numpy as np
import pytest
import torch

import cache_teacher.cache
import cache_teacher.decoding
import pld.cli.verify
from cache_teacher.cache import cache
from cache_teacher.cache import main as cache_main
from cache_teacher.cutting import GpuCutter, PartRows, cut_views, view_cutter
from cache_teacher.decoding import by_processes
from pld.cli.main import _main as pld_main
from pld.config import run
from pld.errors import DataError, FingerprintMismatchError, UndecodableImageError
from pld.images import open_source
from pld.store import open_store
from pld.views.preprocessing import Preprocessing
from tests.cache_teacher.test_cache import arguments, config
from tests.making import jpeg, write_tar

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(input_size=(24, 40))


@pytest.fixture
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(cache_teacher.cache, "check_device", lambda device: None)
    monkeypatch.setattr(cache_teacher.cache, "decoding", lambda device: by_processes)


def cutter(source, *, skip: bool = False) -> GpuCutter:
    made = view_cutter(source, source.policy, PREPROCESSING, skip_bad_images=skip, gpu=CPU)
    assert isinstance(made, GpuCutter)
    return made


@pytest.mark.parametrize("batch_size", [7, 30])
def test_chunks_are_nearly_what_the_cpu_decodes(world, monkeypatch, batch_size):
    """Parts of other views, chunks of several pieces, pieces larger than a block."""
    monkeypatch.setattr(cache_teacher.decoding, "_VIEWS_AT_ONCE", 3)
    source = open_source(str(world / "data"))
    by_cpu = view_cutter(source, source.policy, PREPROCESSING, skip_bad_images=False, gpu=None)
    parts = [PartRows(range(24), range(3)), PartRows(range(24, 41), range(3, 5)), PartRows([70], range(50))]
    with by_processes(cutter(source), batch_size=batch_size, num=2) as decoder:
        kept = list(decoder.chunks(parts))
    rows = [row for chunk in kept for row in chunk.wanted.rows]
    assert rows == [*range(41), 70]
    for chunk in kept:
        assert all(chunk.good)
        assert chunk.images.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
        for row, images in zip(chunk.wanted.rows, chunk.images, strict=True):
            alone = torch.empty_like(images)
            cut_views(source, row, chunk.wanted.view_indexes, by_cpu.policy, PREPROCESSING, alone)
            assert (images.int() - alone.int()).abs().max() <= 2


def test_bad_images(tmp_path):
    members = {f"{i}.cls": b"1" for i in range(9)}
    members |= {f"{i}.jpg": jpeg(i)[:200] if i in (2, 5) else jpeg(i) for i in range(9)}
    source = open_source(str(write_tar(tmp_path / "train-0000.tar", members)))
    with by_processes(cutter(source, skip=True), batch_size=4, num=2) as decoder:
        good = [good for chunk in decoder.chunks([PartRows(range(9), range(2))]) for good in chunk.good]
    assert [row for row in range(9) if not good[row]] == [2, 5]
    with (
        pytest.raises(UndecodableImageError, match="sample 2: cannot be decoded"),
        by_processes(cutter(source), batch_size=4, num=2) as decoder,
    ):
        list(decoder.chunks([PartRows(range(9), range(2))]))
    assert multiprocessing.active_children() == []


def test_who_decoded_is_part_of_the_store(world, tmp_path, on_the_cpu, capsys):
    cache(config(world, tmp_path / "gpu", decoder="nvjpeg"))
    cache(config(world, tmp_path / "cpu"))
    gpu, cpu = (open_store(str(tmp_path / name)) for name in ("gpu", "cpu"))
    assert gpu.manifest.identity.views.decoder == "nvjpeg"
    assert cpu.manifest.identity.views.decoder == "cpu"
    assert gpu.manifest.identity.fingerprint != cpu.manifest.identity.fingerprint
    assert "decoder" not in cpu.manifest.identity.to_json()["views"]
    for view in range(3):
        ours, theirs = (store.load_view(view)[np.arange(store.num_samples)] for store in (gpu, cpu))
        assert (ours.logprobs - theirs.logprobs).abs().mean() < 0.02
        assert not torch.equal(ours.logprobs, theirs.logprobs)
    capsys.readouterr()
    cache(config(world, tmp_path / "gpu", decoder="nvjpeg", views=4))
    assert "warning" not in capsys.readouterr().err  # its probes were decoded likewise
    with pytest.raises(FingerprintMismatchError, match=r"views\.decoder"):
        cache(config(world, tmp_path / "gpu", views=4))
    with pytest.raises(FingerprintMismatchError, match=r"views\.decoder"):
        cache(config(world, tmp_path / "cpu", decoder="nvjpeg", views=4))


def test_a_replay_decodes_as_the_teacher_did_or_says_so(world, tmp_path, on_the_cpu, monkeypatch, capsys):
    cache(config(world, tmp_path / "gpu", decoder="nvjpeg", views=1))
    argv = ["verify", str(tmp_path / "gpu"), "--replay", "3", "--data", str(world / "data")]
    assert run(pld_main, argv) == 0
    printed = capsys.readouterr().out
    assert "decoded by nvJPEG, which cannot be had here" in printed
    assert "a little differently than the teacher's" in printed
    monkeypatch.setattr(pld.cli.verify, "check_device", lambda device: None)
    assert run(pld_main, argv) == 0
    assert "3 stored views are what this machine draws, pixel by pixel" in capsys.readouterr().out


def test_without_a_gpu_it_is_refused(world, tmp_path, capsys):
    assert run(cache_main, [*arguments(world, tmp_path / "s"), "--decoder", "nvjpeg", "--device", "cpu"]) == 2
    message = "decodes on a GPU, this is cpu; give --decoder cpu"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_file_that_goes(world, tmp_path):
    folder = tmp_path / "data" / "dog"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    source = open_source(str(tmp_path / "data"))
    (folder / "1.jpg").unlink()
    with (
        pytest.raises(DataError, match="sample dog/1: No such file"),
        by_processes(cutter(source), batch_size=4, num=1) as decoder,
    ):
        list(decoder.chunks([PartRows(range(3), range(2))]))
