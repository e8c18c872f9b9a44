"""Images behind URLs: the same samples as on a local disk, through faults, and what is wrong there is named."""

import functools
import hashlib
import http.server
import itertools
import threading

import fsspec
import numpy as np
import pytest
from s3fs import S3FileSystem

from pld.errors import DataError
from pld.images import open_source
from pld.loading.shard_prefetch import prefetch_shards
from pld.remote.image_shards import RemotePlace
from tests.making import shard_members, write_tar
from tests.object_store import FaultyProxy
from tests.remote.faults import Counting, assert_same, items_of, kept, put


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
    monkeypatch.setattr("pld.remote.retry._FIRST_WAIT_SECONDS", 0.005)
    monkeypatch.setattr("pld.remote.image_shards._CHUNK_BYTES", 9000)
    with FaultyProxy(object_store.port, failing=0.15, cutting=0.1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        S3FileSystem.clear_instance_cache()
        assert_same(open_source(f"{bucket}/data"), open_source(str(local)))
        assert min(proxy.faults[fault] for fault in ("error", "dropped", "cut")) >= 1, proxy.faults
    S3FileSystem.clear_instance_cache()


def test_what_is_missing_is_named(bucket, memory, cache):
    for url in (bucket, memory):
        with pytest.raises(DataError, match=r"no train-\*.tar|train-0006.tar: there is no such object .2 of 4 shards"):
            open_source(f"{url}/train-{{0004..0007}}.tar" if url == memory else url)
    with pytest.raises(DataError, match=r"no test-\*.tar; found train, val"):
        open_source(memory, "test")
    with pytest.raises(DataError, match="pack a folder of images into shards"):
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
        list(prefetch_shards(source, passes, lambda item: item.rows, in_flight=1))
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
    read, flips = place.driver.read_range, itertools.count()

    def flipping(path, where, offset, num_bytes):
        data = bytearray(read(path, where, offset, num_bytes))
        data[100] ^= next(flips) % 2 == 0
        return bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(place.driver, "read_range", flipping)
        with pytest.raises(DataError, match="read twice, it differs from itself and from its MD5"):
            place.hold(shard, threading.Event())
    assert kept(cache) == 0
    # A tag that is no MD5: what comes twice alike is believed, and the next shard comes once.
    monkeypatch.setattr("pld.remote.image_shards._md5", lambda info, scheme: "0" * 32)
    tagged = place.shards([f"{bucket}/train-000{n}.tar" for n in (0, 1)])
    counting = Counting(monkeypatch, cache)
    for one in tagged:
        held = place.hold(one, threading.Event())
        assert held.path.read_bytes() == (local / one.url.rpartition("/")[2]).read_bytes()
        held.release()
    assert counting.fetches == ["train-0000.tar", "train-0000.tar", "train-0001.tar"]


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
