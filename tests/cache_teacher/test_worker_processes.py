"""Stage one with worker processes: the same store, and what is said where one dies."""

import multiprocessing
import re

import numpy as np

import cache_teacher.load_parts
from cache_teacher.cache import cache
from cache_teacher.load_parts import decoding_processes
from cache_teacher.pieces import split_part
from tests.cache_teacher.test_cache import arguments, config
from tests.processes import python, tree_bytes


def test_a_part_in_pieces():
    """At most so many views at once, but at least one row; pieces never cross a batch."""
    for batch_size, sizes in ((7, [2] * 12), (30, [10, 10, 4]), (2, [1] * 24), (1000, [24])):
        pieces = list(split_part(np.arange(24), range(3), batch_size=batch_size, piece_size=batch_size))
        assert [len(piece.rows) for piece in pieces] == sizes
        assert all(piece.ends_batch for piece in pieces)
        assert [piece.ends_part for piece in pieces] == [False] * (len(sizes) - 1) + [True]
    pieces = list(split_part(np.arange(24), range(3), batch_size=30, piece_size=13))
    assert [len(piece.rows) for piece in pieces] == [4, 4, 2, 4, 4, 2, 4]
    assert [piece.ends_batch for piece in pieces] == [False, False, True, False, False, True, True]
    assert [piece.ends_part for piece in pieces] == [False] * 6 + [True]
    assert np.concatenate([piece.rows for piece in pieces]).tolist() == list(range(24))


def test_processes_write_the_same_store(world, tmp_path, monkeypatch):
    assert [decoding_processes(device, 3) for device in ("cpu", "cuda:1", "mps")] == [0, 3, 3]
    cache(config(world, tmp_path / "threads", views=12, batch_size=30))
    monkeypatch.setattr(cache_teacher.load_parts, "decoding_processes", lambda device, num: num)
    monkeypatch.setattr(cache_teacher.load_parts, "_VIEWS_AT_ONCE", 13)
    cache(config(world, tmp_path / "processes", views=12, batch_size=30, threads=2))
    written, wanted = tree_bytes(tmp_path / "processes"), tree_bytes(tmp_path / "threads")
    written.pop("store.json"), wanted.pop("store.json")  # the command's --store is in it
    assert written == wanted
    assert multiprocessing.active_children() == []


DEADLY = """
import os, sys
import cache_teacher.cache
import cache_teacher.load_parts
import pld.images
from pld.config import run
from torch.utils.data import get_worker_info

read = pld.images.Source.read

def deadly(source, row):
    if source.key(row) == "train-0033" and get_worker_info():
        os.kill(os.getpid(), 9)
    return read(source, row)

pld.images.Source.read = deadly
cache_teacher.load_parts.decoding_processes = lambda device, num: num
sys.exit(run(cache_teacher.cache.main, sys.argv[1:]))
"""


def test_a_process_that_dies_names_the_sample_and_caching_goes_on_later(world, tmp_path):
    """In a process of its own, without the checks of shapes, inside which the signal may arrive and be lost."""
    done = python("-c", DEADLY, *arguments(world, tmp_path / "s", threads=2), cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert re.search(r"a loader process died .*train-0033.*use fewer --threads", done.stderr)
    assert "Traceback" not in done.stderr
    cache(config(world, tmp_path / "s"))
