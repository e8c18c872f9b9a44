"""Shards are fetched ahead: once an epoch, within a bound, each process its own streams' alone."""

import dataclasses
import functools
import threading
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import ConfigError
from pld.images import ImageShard, Source, open_source
from pld.images.order import deal_shards
from pld.images.sources.source import RemoteFiles
from pld.loading.shard_prefetch import Use, peak_bytes, prefetch_shards
from pld.remote.image_shards import RemotePlace, RemoteShard
from pld.remote.shard_cache import HeldShard, ShardCache
from tests.making import make_dataset
from tests.remote.faults import SIZES, Counting, items_of, kept, limit, put


@pytest.mark.parametrize("in_flight", [1, 3])
def test_each_shard_comes_once_an_epoch_within_the_bound(memory, cache, local, monkeypatch, in_flight):
    """Two streams, a window of one shard: of six shards a few at once."""
    largest = max(path.stat().st_size for path in local.glob("train-*.tar"))
    limit(monkeypatch, 5 * largest)
    source = open_source(memory)
    source = dataclasses.replace(source, shuffle_window=1)
    for path in cache.iterdir():
        path.unlink()
    counting = Counting(monkeypatch, cache)
    passes = items_of(source, rank=0, world=1, streams=2, epochs=3)
    seen = []
    for item in prefetch_shards(source, passes, lambda item: item.rows, in_flight=in_flight):
        assert kept(cache) <= 5 * largest
        for row in item.rows.tolist():
            assert source.remote.place.cache.read(source.remote.shards[source.file_index[row]].file_name, 0, 1)
        seen.append(item.rows.tolist())
    assert seen == [item.rows.tolist() for items in passes for item in items()]
    assert counting.most <= 5 * largest
    assert max(counting.fetches.count(name) for name in counting.fetches) <= 3
    assert len(counting.fetches) < 3 * len(SIZES)  # what there was room for was still there


def test_a_process_touches_its_own_streams_alone(tmp_path, cache, monkeypatch):
    """Equal shards, as datasets have them: two machines, each with a cache of its own."""
    make_dataset(tmp_path / "equal", shard_sizes=(16,) * 8)
    url = f"memory://{uuid.uuid4().hex}/data"
    put(tmp_path / "equal", url)
    dealt = deal_shards(1, [16] * 8, 4)
    for rank in range(2):
        monkeypatch.setenv("PLD_CACHE", str(tmp_path / f"machine-{rank}"))
        source = open_source(url)
        for path in (tmp_path / f"machine-{rank}" / "shards").iterdir():
            path.unlink()
        with monkeypatch.context() as patch:
            counting = Counting(patch, cache)
            patch.setattr(
                "pld.remote.driver.RetryingDriver.read_range", ranges := Recorded(source.remote.place.driver.read_range)
            )
            passes = items_of(source, rank=rank, world=2, streams=4, epochs=2)
            for item in prefetch_shards(source, passes, lambda item: item.rows, in_flight=1):
                for row in item.rows.tolist():
                    source.read(row)
        own = {f"train-{shard:04d}.tar" for stream in (rank, rank + 2) for shard in dealt[stream]}
        assert set(counting.fetches) == own
        assert len(counting.fetches) == len(own)
        assert {path.rpartition("/")[2] for path in ranges.paths} == own


class Recorded:
    def __init__(self, read):
        self._read, self.paths = read, []

    def __call__(self, path, where, offset, num_bytes):
        self.paths.append(path)
        return self._read(path, where, offset, num_bytes)


def test_a_bound_that_is_too_small_says_what_is_wanted(memory, cache, local, monkeypatch):
    sizes = [path.stat().st_size for path in sorted(local.glob("train-*.tar"))]
    limit(monkeypatch, max(sizes) - 1)
    with pytest.raises(
        ConfigError, match=f"PLD_IMAGE_CACHE_BYTES: {max(sizes) - 1:,} bytes; wanted at least a shard's"
    ):
        open_source(memory)
    limit(monkeypatch, max(sizes))
    source = open_source(memory)  # one after the other
    passes = items_of(source, rank=0, world=1, streams=2, epochs=1)
    with pytest.raises(ConfigError, match=f"PLD_IMAGE_CACHE_BYTES: .* wants {sum(sizes):,} on this machine") as caught:
        list(prefetch_shards(source, passes, lambda item: item.rows, in_flight=1))
    assert "fewer --streams" in str(caught.value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=f"wants {2 * 2 * sum(sizes):,} on this machine"):
        list(prefetch_shards(source, passes, lambda item: item.rows, in_flight=1, share=0.5))
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    limit(monkeypatch, sum(sizes))
    source = open_source(memory)
    assert len(list(prefetch_shards(source, passes, lambda item: item.rows, in_flight=1))) == sum(SIZES) // 8


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12), st.integers(0, 5)), max_size=12),
    st.lists(st.integers(1, 50), min_size=6, max_size=6),
    st.integers(1, 6),
)
def test_what_is_needed_at_once_against_a_slow_twin(drawn, sizes, in_flight):
    uses = sorted(Use(first, first + length, shard) for first, length, shard in drawn)
    twin = max(
        sum(sizes[shard] for shard in {use.shard for use in uses if use.first <= item < use.last + in_flight})
        for item in range(60)
    )
    assert peak_bytes(uses, np.array(sizes), in_flight) == twin


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_exactly_what_is_needed_is_enough(shard_sizes, streams, window, in_flight):
    """It never stands still, and gives what it was given."""
    source = tiny(shard_sizes, window)
    passes = items_of(source, rank=0, world=1, streams=streams, epochs=2, batch_size=2)
    wanted = [item.rows.tolist() for items in passes for item in items()]
    ask = functools.partial(prefetch_shards, source, passes, lambda item: item.rows, in_flight=in_flight)
    bound = source.remote.place.cache
    while True:  # each pass says what it wants at once; the largest is what it comes to
        try:
            assert [item.rows.tolist() for item in ask()] == wanted
            break
        except ConfigError as error:
            more = int(str(error).split(" wants ")[1].split(" on ")[0].replace(",", ""))
            assert bound.max_bytes < more <= sum(shard.num_bytes for shard in source.remote.shards)
            bound.max_bytes = more


class NoDisk(RemotePlace):
    """Keeps count in place of files."""

    def __init__(self):
        self.cache = ShardCache(Path("nowhere"), 0)
        self.bytes, self.held, self.lock = 0, Counter(), threading.Lock()

    def hold(self, shard, stop):
        with self.lock:
            self.bytes += shard.num_bytes * (not self.held[shard.url])
            self.held[shard.url] += 1
            assert self.bytes <= self.cache.max_bytes
        return Lent(self, shard)


class Lent(HeldShard):
    def __init__(self, place, shard):
        self.place, self.shard = place, shard

    def release(self):
        with self.place.lock:
            self.place.held[self.shard.url] -= 1
            self.place.bytes -= self.shard.num_bytes * (not self.place.held[self.shard.url])


def tiny(shard_sizes, window):
    num = sum(shard_sizes)
    shards = tuple(
        RemoteShard(url=f"x://{i}", path=f"{i}", num_bytes=10 * n + 5, version="", md5="", ranges=True)
        for i, n in enumerate(shard_sizes)
    )
    return Source(
        location="tiny",
        shards=tuple(ImageShard(f"{i}", n) for i, n in enumerate(shard_sizes)),
        keys=np.arange(num).astype("S"),
        labels=np.zeros(num, np.int64),
        files=tuple(shard.url for shard in shards),
        file_index=np.repeat(np.arange(len(shard_sizes)), shard_sizes),
        offsets=np.zeros(num, np.int64),
        sizes=np.full(num, 10),
        shuffle_window=window,
        remote=RemoteFiles(NoDisk(), shards),
    )
