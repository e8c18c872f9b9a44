"""Images behind URLs: the same samples as on a local disk, fetched once, within a bound, through faults and kills."""

import dataclasses
import functools
import hashlib
import http.server
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from s3fs import S3FileSystem

from pld.caches import status_of
from pld.errors import ConfigError, DataError, OutputError
from pld.images import ImageShard, Source, fetched_ahead, open_source
from pld.images.ahead import Use, most_bytes
from pld.images.order import deal_shards
from pld.images.remote_shards import RemotePlace, RemoteShard
from pld.images.shard_cache import HeldShard, ShardCache
from pld.images.source import RemoteFiles
from tests.making import make_dataset, shard_members, write_tar
from tests.object_store import FaultyProxy
from tests.processes import environment
from train_student.input import epoch_items

SIZES = (24, 17, 30, 20, 22, 25)


@pytest.fixture
def local(tmp_path):
    folder = make_dataset(tmp_path / "data", shard_sizes=SIZES)
    (folder / "dataset.json").write_text(json.dumps({"class_names": [f"c{i}" for i in range(12)]}))
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of cached shards, and nothing in it."""
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def memory(local, cache):
    url = f"memory://{uuid.uuid4().hex}/data"
    put(local, url)
    return url


def put(folder, url):
    for path in folder.iterdir():
        with fsspec.open(f"{url}/{path.name}", "wb") as file:
            file.write(path.read_bytes())


def kept(folder):
    """Bytes of the files there; one may get its final name while they are listed."""
    found = (status_of(entry) for entry in os.scandir(folder)) if folder.is_dir() else ()
    return sum(status.st_size for status in found if status)


def limit(monkeypatch, num_bytes):
    monkeypatch.setenv("PLD_IMAGE_CACHE_BYTES", str(num_bytes))


def assert_same(source, wanted):
    assert source.keys.tolist() == wanted.keys.tolist()
    assert np.array_equal(source.labels, wanted.labels)
    assert source.shards == wanted.shards
    assert source.class_names == wanted.class_names
    for row in range(len(wanted)):
        assert source.read(row) == wanted.read(row)


@pytest.mark.parametrize("scheme", ["s3", "memory"])
def test_a_url_is_the_folder(request, local, cache, scheme):
    url = request.getfixturevalue("bucket") if scheme == "s3" else request.getfixturevalue("memory")
    put(local, url)
    wanted = open_source(str(local))
    assert_same(open_source(url), wanted)
    assert_same(open_source(url + "/train-{0000..0005}.tar"), wanted)
    assert_same(open_source(f"file://{local}"), wanted)
    assert_same(open_source(url, "val"), open_source(str(local), "val"))
    one = open_source(f"{url}/train-0002.tar")
    assert [shard.name for shard in one.shards] == ["train-0002"]
    assert one.files == (f"{url}/train-0002.tar",)


def test_a_shard_comes_once_and_its_index_stays(bucket, object_store, local, cache, monkeypatch):
    put(local, f"{bucket}/data")
    sizes = {path.name: path.stat().st_size for path in local.glob("train-*.tar")}
    with FaultyProxy(object_store.port, failing=0, cutting=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        S3FileSystem.clear_instance_cache()
        source = open_source(f"{bucket}/data")
        assert {path.rpartition("/")[2]: n for path, n in proxy.sent.items() if path.endswith(".tar")} == sizes
        for row in range(len(source)):
            source.read(row)
        open_source(f"{bucket}/data")
        assert sum(n for path, n in proxy.sent.items() if path.endswith(".tar")) == sum(sizes.values())
        for path in cache.glob("*.tar"):
            path.unlink()
        assert source.read(30) == open_source(str(local)).read(30)  # a range
        assert (
            sum(n for path, n in proxy.sent.items() if path.endswith(".tar")) == sum(sizes.values()) + source.sizes[30]
        )
    S3FileSystem.clear_instance_cache()


def test_faults_change_nothing(bucket, object_store, local, cache, monkeypatch):
    put(local, f"{bucket}/data")
    monkeypatch.setattr("pld.transient._FIRST_WAIT_SECONDS", 0.005)
    monkeypatch.setattr("pld.images.remote_shards._CHUNK_BYTES", 9000)
    with FaultyProxy(object_store.port, failing=0.15, cutting=0.1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        S3FileSystem.clear_instance_cache()
        assert_same(open_source(f"{bucket}/data"), open_source(str(local)))
        assert min(proxy.faults[fault] for fault in ("error", "dropped", "cut")) >= 1, proxy.faults
    S3FileSystem.clear_instance_cache()


def items_of(source, *, rank, world, streams, epochs, batch_size=8):
    return [
        functools.partial(epoch_items, source, seed=1, epoch=epoch, view_index=0, batch_size=batch_size,
                          streams=streams, rank=rank, world=world)
        for epoch in range(epochs)
    ]  # fmt: skip


class Counting:
    """Counts fetches by shard, and notes what the folder holds then."""

    def __init__(self, monkeypatch, folder):
        self.fetches, self.most = [], 0
        place = "pld.images.remote_shards.RemotePlace._copy"
        copy = RemotePlace._copy

        def counted(place, shard, file, stop):
            self.fetches.append(shard.url.rpartition("/")[2])
            self.most = max(self.most, kept(folder))
            return copy(place, shard, file, stop)

        monkeypatch.setattr(place, counted)


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
    for item in fetched_ahead(source, passes, lambda item: item.rows, in_flight=in_flight):
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
            patch.setattr("pld.remote.Remote.read_range", ranges := Recorded(source.remote.place.remote.read_range))
            passes = items_of(source, rank=rank, world=2, streams=4, epochs=2)
            for item in fetched_ahead(source, passes, lambda item: item.rows, in_flight=1):
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
        list(fetched_ahead(source, passes, lambda item: item.rows, in_flight=1))
    assert "fewer --streams" in str(caught.value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=f"wants {2 * 2 * sum(sizes):,} on this machine"):
        list(fetched_ahead(source, passes, lambda item: item.rows, in_flight=1, share=0.5))
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    limit(monkeypatch, sum(sizes))
    source = open_source(memory)
    assert len(list(fetched_ahead(source, passes, lambda item: item.rows, in_flight=1))) == sum(SIZES) // 8


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
    assert most_bytes(uses, np.array(sizes), in_flight) == twin


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_exactly_what_is_needed_is_enough(shard_sizes, streams, window, in_flight):
    """It never stands still, and gives what it was given."""
    source = tiny(shard_sizes, window)
    passes = items_of(source, rank=0, world=1, streams=streams, epochs=2, batch_size=2)
    wanted = [item.rows.tolist() for items in passes for item in items()]
    ask = functools.partial(fetched_ahead, source, passes, lambda item: item.rows, in_flight=in_flight)
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


def test_what_is_missing_is_named(bucket, memory, cache):
    for url in (bucket, memory):
        with pytest.raises(DataError, match=r"no train-\*.tar|train-0006.tar: there is no such object .2 of 4 shards"):
            open_source(f"{url}/train-{{0004..0007}}.tar" if url == memory else url)
    with pytest.raises(DataError, match=r"no test-\*.tar; found train, val"):
        open_source(memory, "test")
    with pytest.raises(DataError, match="a folder of images is to be packed"):
        open_source(f"{memory}/nothing")
    with pytest.raises(DataError, match="pip install gcsfs"):
        open_source("gs://bucket/train-0000.tar")
    with pytest.raises(DataError, match="unbalanced braces"):
        open_source("s3://bucket/train-{0000.tar")


def test_wrong_shards_are_named_by_their_urls(memory, cache, tmp_path):
    def replace(data):
        with fsspec.open(f"{memory}/train-0001.tar", "wb") as file:
            file.write(data)

    whole = (tmp_path / "data" / "train-0001.tar").read_bytes()
    replace(whole[:5000])
    with pytest.raises(DataError, match=f"{memory}/train-0001.tar: .*truncated"):
        open_source(memory)
    replace(write_tar(tmp_path / "x.tar", {**shard_members(0, 3), "x.cls": b"1"}).read_bytes())
    with pytest.raises(DataError, match=f"{memory}/train-0001.tar: sample 'x' has a .cls but no image"):
        open_source(memory)
    replace(whole)
    source = open_source(memory)
    for path in cache.iterdir():
        path.unlink()
    replace(whole)  # the same bytes at another time: nothing tells that they are the same
    passes = items_of(source, rank=0, world=1, streams=1, epochs=1)
    with pytest.raises(DataError, match=f"{memory}/train-0001.tar: was replaced since it was looked at"):
        list(fetched_ahead(source, passes, lambda item: item.rows, in_flight=1))
    fsspec.filesystem("memory").rm_file(f"{memory}/train-0001.tar")
    row = int(np.flatnonzero(source.file_index == 1)[0])
    with pytest.raises(DataError, match=r"train-0001.tar: it is gone"):
        source.read(row)


def test_bytes_are_checked_against_the_etag(bucket, local, cache, monkeypatch):
    put(local, bucket)
    place = RemotePlace(bucket)
    (shard,) = place.shards([f"{bucket}/train-0000.tar"])
    whole = (local / "train-0000.tar").read_bytes()
    assert shard.md5 == hashlib.md5(whole).hexdigest()
    read, flips = place.remote.read_range, itertools.count()

    def flipping(path, where, offset, num_bytes):
        data = bytearray(read(path, where, offset, num_bytes))
        data[100] ^= next(flips) % 2 == 0
        return bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(place.remote, "read_range", flipping)
        with pytest.raises(DataError, match="read twice, it differs from itself and from its MD5"):
            place.hold(shard, threading.Event())
    assert kept(cache) == 0
    # A tag that is no MD5: what comes twice alike is believed, and the next shard comes once.
    monkeypatch.setattr("pld.images.remote_shards._md5", lambda info, scheme: "0" * 32)
    tagged = place.shards([f"{bucket}/train-000{n}.tar" for n in (0, 1)])
    counting = Counting(monkeypatch, cache)
    for one in tagged:
        held = place.hold(one, threading.Event())
        assert held.path.read_bytes() == (local / one.url.rpartition("/")[2]).read_bytes()
        held.release()
    assert counting.fetches == ["train-0000.tar", "train-0000.tar", "train-0001.tar"]


def test_a_full_disk_is_said_and_leaves_nothing(memory, cache, monkeypatch):
    """A limit on what a file may hold, which fails a write as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"image shards cannot be kept there: .*make room, lower PLD_IMAGE_CACHE"):
            open_source(memory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert kept(cache) == 0
    (cache.parent / "file").write_text("")
    monkeypatch.setenv("PLD_CACHE", str(cache.parent / "file"))
    with pytest.raises(OutputError, match="cannot be kept there"):
        open_source(memory)


FETCH = "import sys; from pld.images import open_source; print(len(open_source(sys.argv[1])))"


def test_killed_while_fetching_the_next_one_goes_on(bucket, object_store, local, cache, tmp_path):
    """At every stage; nothing half-written is taken for a shard, and its room is given back."""
    put(local, f"{bucket}/data")
    sizes = [path.stat().st_size for path in local.glob("train-*.tar")]
    env = environment(**object_store.environment(), PLD_CACHE=str(tmp_path / "cache"),
                      PLD_IMAGE_CACHE_BYTES=str(sum(sizes)))  # fmt: skip
    argv = [sys.executable, "-c", FETCH, f"{bucket}/data"]
    for wanted in (1, 4):
        process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(cache.glob("*"))) <= wanted:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    (cache / "0.tar.part").write_bytes(bytes(sizes[0]))  # of a killed process, certainly
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(sum(SIZES))
    assert_same(open_source(f"{bucket}/data"), open_source(str(local)))
    assert kept(cache) <= sum(sizes)


def test_processes_share_what_they_fetch(bucket, object_store, local, cache, tmp_path):
    put(local, f"{bucket}/data")
    with FaultyProxy(object_store.port, failing=0, cutting=0) as proxy:
        env = environment(**object_store.environment(proxy.port), PLD_CACHE=str(tmp_path / "cache"))
        argv = [sys.executable, "-c", FETCH, f"{bucket}/data"]
        processes = [subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.communicate()[0].strip() for process in processes] == [str(sum(SIZES))] * 2
        sizes = {path.name: path.stat().st_size for path in local.glob("train-*.tar")}
        assert {path.rpartition("/")[2]: n for path, n in proxy.sent.items() if path.endswith(".tar")} == sizes


class Folder(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_http_without_ranges_and_listings(local, cache):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Folder, directory=str(local)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    assert_same(open_source(url + "/train-{0000..0005}.tar"), open_source(str(local)))
    assert_same(open_source(url + "/"), open_source(str(local)))
    with pytest.raises(DataError, match=r"train-0006.tar: there is no such object .1 of 3 shards"):
        open_source(url + "/train-{0004..0006}.tar")
    server.shutdown()
    server.server_close()
