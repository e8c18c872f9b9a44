"""Stage one with images decoded by a GPU. A CPU stands in for it."""

import numpy as np
import pytest
import torch

import cache_teacher.inputs
import cache_teacher.load_parts
import pld.cli.verify
from cache_teacher.cache import cache
from cache_teacher.cache import main as cache_main
from pld.cli.main import _main as pld_main
from pld.config import run
from pld.errors import FingerprintMismatchError
from pld.store import open_store
from tests.cache_teacher.test_cache import arguments, config


@pytest.fixture
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(cache_teacher.inputs, "check_device", lambda device: None)
    monkeypatch.setattr(cache_teacher.load_parts, "decoding_processes", lambda device, num: num)


def test_who_decoded_is_part_of_the_store(world, tmp_path, on_the_cpu, console):
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
    console.readouterr()
    cache(config(world, tmp_path / "gpu", decoder="nvjpeg", views=4))
    assert "warning" not in console.readouterr().err  # its probes were decoded likewise
    with pytest.raises(FingerprintMismatchError, match=r"views\.decoder"):
        cache(config(world, tmp_path / "gpu", views=4))
    with pytest.raises(FingerprintMismatchError, match=r"views\.decoder"):
        cache(config(world, tmp_path / "cpu", decoder="nvjpeg", views=4))


def test_a_replay_decodes_as_the_teacher_did_or_says_so(world, tmp_path, on_the_cpu, monkeypatch, console):
    cache(config(world, tmp_path / "gpu", decoder="nvjpeg", views=1))
    argv = ["verify", str(tmp_path / "gpu"), "--replay", "3", "--data", str(world / "data")]
    assert run(pld_main, argv) == 0
    printed = console.readouterr().out
    assert "decoded by nvJPEG, which cannot be had here" in printed
    assert "a little differently than the teacher's" in printed
    monkeypatch.setattr(pld.cli.verify, "check_device", lambda device: None)
    assert run(pld_main, argv) == 0
    assert "3 stored views are what this machine draws, pixel by pixel" in console.readouterr().out


def test_without_a_gpu_it_is_refused(world, tmp_path, console):
    assert run(cache_main, [*arguments(world, tmp_path / "s"), "--decoder", "nvjpeg", "--device", "cpu"]) == 2
    message = "decodes on a GPU, this is cpu; give --decoder cpu"
    assert message in console.readouterr().err
    assert not (tmp_path / "s").exists()
