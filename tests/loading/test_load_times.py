"""Loaders count where their time goes: what is slow is seen, from threads and processes."""

import sys
import time

import numpy as np
import pytest
import torch

from pld.images import open_source
from pld.loading import LoadTimes, ViewRequest, loading, view_decoder
from pld.loading.nvjpeg import NvjpegViewDecoder
from pld.loading.view_decoder import CpuViewDecoder
from pld.views.preprocessing import Preprocessing
from tests.making import make_dataset

SLOW = 0.01
PLACES = {"reading": "read", "decoding": "decode_row", "cutting": "apply_view"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source(str(make_dataset(tmp_path_factory.mktemp("times") / "data", shard_sizes=(16,))))


def slowly(function):
    def slow(*arguments, **named):
        time.sleep(SLOW)
        return function(*arguments, **named)

    return slow


def load(decoder, times, requests, **workers):
    with loading(decoder, requests, times=times, **workers) as views:
        assert [len(each.good) for each in views] == [8, 8]


@pytest.mark.parametrize("workers", [{}, {"threads": 2}, {"processes": 2}])
@pytest.mark.parametrize("part", PLACES)
def test_what_is_slow_is_seen(source, monkeypatch, part, workers):
    """Forked workers inherit the slowness. Sixteen images wait this long each, on whichever thread or process."""
    place = type(source) if part == "reading" else sys.modules[CpuViewDecoder.__module__]
    monkeypatch.setattr(place, PLACES[part], slowly(getattr(place, PLACES[part])))
    times = LoadTimes(workers.get("processes", 0))
    decoder = view_decoder(source, source.policy, [Preprocessing(input_size=(32, 32))])
    load(decoder, times, [ViewRequest(np.arange(first, first + 8), (0,)) for first in (0, 8)], **workers)
    seconds = times.seconds
    assert seconds[part] >= 16 * SLOW
    assert seconds[part] > 0.5 * sum(seconds.values())
    assert min(seconds.values()) > 0


def test_waiting_for_requests_is_seen(source):
    def requests():
        for first in (0, 8):
            time.sleep(10 * SLOW)
            yield ViewRequest(np.arange(first, first + 8), (0,))

    times = LoadTimes(1)
    load(view_decoder(source, source.policy, [Preprocessing(input_size=(32, 32))]), times, requests(), processes=1)
    assert times.drawing >= 20 * SLOW


@pytest.mark.long
def test_workers_that_are_not_forked_count_too(source):
    times = LoadTimes(1)
    decoder = view_decoder(source, source.policy, [Preprocessing(input_size=(32, 32))])
    requests = [ViewRequest(np.arange(first, first + 8), (0,)) for first in (0, 8)]
    load(decoder, times, requests, processes=1, context="spawn")
    assert min(times.seconds.values()) > 0


def test_nvjpegs_workers_count_reading(source, monkeypatch):
    monkeypatch.setattr(type(source), "read", slowly(type(source).read))
    times = LoadTimes()
    decoder = NvjpegViewDecoder(
        dataset=source, policy=source.policy, outputs=(Preprocessing(input_size=(32, 32)),), device=torch.device("cuda")
    )
    request = ViewRequest(np.arange(8), (0,))
    memory = torch.empty(decoder.num_bytes(request), dtype=torch.uint8)
    decoder.fill(request, memory, lambda row: None, watch=times.of())
    assert times.seconds["reading"] >= 8 * SLOW
    assert times.seconds["reading"] > 0.9 * sum(times.seconds.values())
