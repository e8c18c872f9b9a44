"""Threads and processes give the same chunks; what happens to processes where something goes wrong."""

import gc
import multiprocessing
import re
from pathlib import Path

import pytest
import torch

import cache_teacher.cache
import cache_teacher.decoding
from cache_teacher.cache import cache
from cache_teacher.cutting import PartRows, ViewCutter, cut_views
from cache_teacher.decoding import by_processes, by_threads, decoding
from pld.errors import UndecodableImageError
from pld.images import open_source
from pld.views.preprocessing import Preprocessing
from tests.cache_teacher.test_cache import arguments, config
from tests.making import jpeg, write_tar
from tests.processes import python, tree_bytes

BOTH = pytest.mark.parametrize("decoders", [by_threads, by_processes])


def cutter(data: Path, *, skip: bool = False) -> ViewCutter:
    source = open_source(str(data))
    return ViewCutter(
        source=source, policy=source.policy, preprocessing=Preprocessing(input_size=(24, 40)), skip_bad_images=skip
    )


@pytest.fixture
def damaged(tmp_path):
    """Rows 2 and 5 are no images."""
    members = {f"{i}.cls": b"1" for i in range(9)}
    members |= {f"{i}.jpg": jpeg(i)[:200] if i in (2, 5) else jpeg(i) for i in range(9)}
    write_tar(tmp_path / "data" / "train-0000.tar", members)
    return tmp_path / "data"


def shared_mappings() -> int:
    gc.collect()
    return Path("/proc/self/maps").read_text().count("/torch_")


@BOTH
@pytest.mark.parametrize("batch_size", [7, 30])
def test_chunks_are_what_each_row_alone_gives(world, monkeypatch, decoders, batch_size):
    """Parts of other views, chunks of several pieces, one that is not full, one larger than a piece's memory."""
    monkeypatch.setattr(cache_teacher.decoding, "_VIEWS_AT_ONCE", 8)
    cut = cutter(world / "data")
    parts = [PartRows(range(24), range(3)), PartRows(range(24, 41), range(3, 5)), PartRows([70], range(50))]
    with decoders(cut, batch_size=batch_size, num=2) as decoder:
        kept = list(decoder.chunks(parts))
    assert [len(chunk.good) for chunk in kept] == (
        [2] * 12 + [3] * 5 + [2] + [1] if batch_size == 7 else [10, 10, 4, 15, 2, 1]
    )
    assert [chunk.wanted.rows[-1] for chunk in kept if chunk.is_last] == [23, 40, 70]
    for chunk in kept:
        assert all(chunk.good)
        for row, images in zip(chunk.wanted.rows, chunk.images, strict=True):
            alone = torch.empty_like(images)
            cut_views(cut.source, row, chunk.wanted.view_indexes, cut.policy, cut.preprocessing, alone)
            assert torch.equal(images, alone)


@BOTH
def test_a_part_is_asked_for_when_earlier_ones_are_decoded(world, decoders):
    """What remote shards are held by."""
    given = 0
    with decoders(cutter(world / "data"), batch_size=4, num=2) as decoder:

        def parts():
            for number in range(20):
                assert number - given <= decoder.parts_in_flight + 2, "two chunks are decoded and not given yet"
                yield PartRows([number], range(2))

        for given, chunk in enumerate(decoder.chunks(parts()), start=1):
            assert chunk.wanted.rows == [given - 1]
    assert given == 20


@BOTH
def test_bad_images_are_told(damaged, decoders):
    with decoders(cutter(damaged, skip=True), batch_size=4, num=2) as decoder:
        chunks = list(decoder.chunks([PartRows(range(9), range(2))]))
    good = [good for chunk in chunks for good in chunk.good]
    assert [row for row in range(9) if not good[row]] == [2, 5]


@BOTH
def test_the_first_bad_image_is_an_error_and_nothing_stays(damaged, decoders):
    before = shared_mappings()
    with (
        pytest.raises(UndecodableImageError, match="sample 2: cannot be decoded") as caught,
        decoders(cutter(damaged), batch_size=12, num=2) as decoder,
    ):
        list(decoder.chunks([PartRows(range(9), range(2))]))
    assert multiprocessing.active_children() == []
    del caught, decoder
    assert shared_mappings() == before


def test_nothing_stays_of_what_was_not_asked_for(world):
    before = shared_mappings()
    with by_processes(cutter(world / "data"), batch_size=4, num=2) as decoder:
        chunks = decoder.chunks([PartRows(range(24), range(2))])
        next(chunks)
        assert len(multiprocessing.active_children()) == 2
        assert shared_mappings() > before
        chunks.close()
    assert multiprocessing.active_children() == []
    del chunks, decoder
    assert shared_mappings() == before


def test_other_errors_are_not_taken_for_a_dead_process(world):
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        by_processes(cutter(world / "data"), batch_size=4, num=1),
    ):
        raise RuntimeError("CUDA out of memory")


def test_processes_write_the_same_store(world, tmp_path, monkeypatch):
    assert (decoding("cpu"), decoding("cuda:1"), decoding("mps")) == (by_threads, by_processes, by_processes)
    cache(config(world, tmp_path / "threads", views=12, batch_size=30))
    monkeypatch.setattr(cache_teacher.cache, "decoding", lambda device: by_processes)
    cache(config(world, tmp_path / "processes", views=12, batch_size=30, threads=2))
    written, wanted = tree_bytes(tmp_path / "processes"), tree_bytes(tmp_path / "threads")
    written.pop("store.json"), wanted.pop("store.json")  # the command's --store is in it
    assert written == wanted
    assert multiprocessing.active_children() == []


DEADLY = """
import os, sys
import cache_teacher.cache
import pld.images
from cache_teacher.decoding import by_processes
from pld.config import run
from torch.utils.data import get_worker_info

read = pld.images.Source.read

def deadly(source, row):
    if source.key(row) == "train-0033" and get_worker_info():
        os.kill(os.getpid(), 9)
    return read(source, row)

pld.images.Source.read = deadly
cache_teacher.cache.decoding = lambda device: by_processes
sys.exit(run(cache_teacher.cache.main, sys.argv[1:]))
"""


def test_a_process_that_dies_names_the_sample_and_caching_goes_on_later(world, tmp_path):
    """In a process of its own, without the checks of shapes, inside which the signal may arrive and be lost."""
    done = python("-c", DEADLY, *arguments(world, tmp_path / "s", threads=2), cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert re.search(r"a loader process died .*train-0033.*Use fewer --threads", done.stderr)
    assert "Traceback" not in done.stderr
    cache(config(world, tmp_path / "s"))
