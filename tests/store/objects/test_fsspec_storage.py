"""Stores behind URLs: the promises of Storage over S3, memory and HTTP, through faults and forks."""

import functools
import http.server
import itertools
import multiprocessing
import os
import pickle
import threading
import uuid

import numpy as np
import pytest
from s3fs import S3FileSystem

from pld.errors import CorruptStoreError, NotCachedError, StoreError
from pld.remote.retry import pauses
from pld.store import open_store
from pld.store.objects.fsspec_storage import FsspecStorage
from pld.store.objects.open import open_storage
from tests.object_store import FaultyProxy
from tests.store.read.test_reader import same
from tests.store.world import World, tree


@pytest.fixture
def memory():
    return f"memory://{uuid.uuid4().hex}/store"


@pytest.fixture(params=["s3", "memory"])
def storage(request):
    url = request.getfixturevalue("bucket") + "/a/store" if request.param == "s3" else request.getfixturevalue("memory")
    return FsspecStorage(url)


@pytest.fixture
def s3(bucket):
    return FsspecStorage(f"{bucket}/a/store")


def contents(storage):
    """All objects of a storage."""
    return {name: storage.read(name, 2**24) for name in storage.list("")}


def test_objects_come_back_whole_and_in_ranges(storage):
    storage.put("a/b.bin", bytes(range(100)))
    storage.put("a/b.bin", bytes(range(100)))
    assert storage.read("a/b.bin", 100) == bytes(range(100))
    assert storage.read_range("a/b.bin", 10, 5) == bytes(range(10, 15))
    storage.put("ab", b"1")
    assert storage.list("a") == ["a/b.bin"]
    assert storage.list("") == ["a/b.bin", "ab"]
    assert storage.list("nothing") == []
    assert storage.leftovers() == {}
    for _ in range(2):
        storage.delete("a/b.bin")
    assert not storage.exists("a/b.bin")
    assert storage.exists("ab")


def test_exactly_one_of_many_writers_creates_an_object(storage):
    barrier, won = threading.Barrier(8), []

    def write(number):
        barrier.wait()
        if storage.put_exclusive("x/y.json", bytes([number]) * 1000):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(won) == 1
    assert storage.read("x/y.json", 1000) == bytes(won) * 1000


def test_what_is_missing_cut_or_too_large_is_said(storage):
    storage.put("x", b"0123456789")
    with pytest.raises(NotCachedError, match="store/y: there is no such object"):
        storage.read("y", 10)
    with pytest.raises(NotCachedError, match="no such object"):
        storage.read_range("y", 0, 10)
    with pytest.raises(CorruptStoreError, match="more bytes, wanted at most 9"):
        storage.read("x", 9)
    for offset, found in ((8, 2), (10, 0), (50, 0)):
        with pytest.raises(CorruptStoreError, match=f"the end after {found} of 5 bytes from byte {offset}"):
            storage.read_range("x", offset, 5)
    with pytest.raises(CorruptStoreError, match="out of the store"):
        storage.put("../x", b"")


def test_a_file_replaces_an_object(storage, tmp_path):
    for content in (b"0123456789", b""):
        (tmp_path / "file").write_bytes(content)
        storage.put_file("a/file", tmp_path / "file")
        assert storage.read("a/file", 10) == content


@pytest.mark.long
def test_an_object_above_the_size_of_one_request_arrives_whole(s3, tmp_path):
    data = np.random.default_rng(0).bytes(101 * 2**20)
    s3.put("parts/large", data)
    (tmp_path / "large").write_bytes(data)
    s3.put_file("parts/file", tmp_path / "large")
    for name in ("large", "file"):
        assert s3.read(f"parts/{name}", len(data)) == data
    assert s3.read_range("parts/large", 50 * 2**20 - 5, 10) == data[50 * 2**20 - 5 :][:10]


def test_errors_name_the_url_and_say_what_to_do(bucket, monkeypatch):
    for url, words in (
        ("gs://bucket/store", "gs://bucket/store: .*gcsfs.*pip install gcsfs"),
        ("nonsense://x", "nonsense://x: .*nonsense.*wanted a folder or a URL such as s3://"),
    ):
        with pytest.raises(StoreError, match=words):
            open_storage(url)
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/store/x: .*make the bucket or folder first"):
        FsspecStorage("s3://no-such-bucket/store").put("x", b"")
    with pytest.raises(NotCachedError, match="there is no store; make one"):
        open_store("s3://no-such-bucket/store")
    assert "secret" not in FsspecStorage("http://me:secret@127.0.0.1:1/store").url
    S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(StoreError, match=r"Unable to locate credentials.*AWS_ACCESS_KEY_ID"):
        FsspecStorage(bucket).exists("x")


def test_a_server_that_is_not_there_is_given_up_after_some_attempts(bucket, monkeypatch):
    monkeypatch.setattr("pld.remote.retry._FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match=r"s3://.*/x: could not be read in 8 attempts: .*run the same command again"):
        FsspecStorage(bucket).exists("x")
    S3FileSystem.clear_instance_cache()


def test_three_in_ten_of_all_requests_failing_changes_nothing(bucket, object_store, monkeypatch):
    monkeypatch.setattr("pld.remote.retry._FIRST_WAIT_SECONDS", 0.005)
    with FaultyProxy(object_store.port, failing=0.2, cutting=0.1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        S3FileSystem.clear_instance_cache()
        storage = FsspecStorage(f"{bucket}/store")
        wanted = {f"f/{number}": os.urandom(2000) for number in range(10)}
        for name, data in wanted.items():
            storage.put(name, data)
            # Its own object, even where the answer to the request that made it was lost; nobody else's.
            assert storage.put_exclusive(f"{name}-x", data)
            assert not storage.put_exclusive(f"{name}-x", b"other")
        for name, data in wanted.items():
            assert storage.read_range(name, 100, 700) == data[100:800]
            assert storage.read(f"{name}-x", 2000) == data
        assert storage.list("f") == sorted([*wanted, *(f"{name}-x" for name in wanted)])
        assert min(proxy.faults[fault] for fault in ("error", "dropped", "unanswered", "cut")) >= 1, proxy.faults
    S3FileSystem.clear_instance_cache()


def _read_in_another_process(storage, answers):
    answers.put(storage.read("x", 10))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_do_not_share_their_parents_connections(s3, method):
    s3.put("x", b"x")
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    count = 2 if method == "fork" else 1
    children = [context.Process(target=_read_in_another_process, args=(s3, answers)) for _ in range(count)]
    [child.start() for child in children]
    assert [answers.get(timeout=60) for _ in children] == [b"x"] * count
    [child.join(timeout=60) for child in children]
    assert [child.exitcode for child in children] == [0] * count
    assert s3.read("x", 10) == b"x"


@pytest.mark.parametrize("scheme", ["s3", "memory"])
def test_a_store_is_the_same_everywhere(request, scheme, tmp_path, monkeypatch):
    url = request.getfixturevalue({"s3": "bucket", "memory": "memory"}[scheme])
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    world = World()
    world.write(tmp_path / "local", 4, block_views=3)
    world.write(url, 4, block_views=3)
    assert contents(open_storage(url)) == tree(tmp_path / "local")
    store = open_store(url)
    table = store.load_view(3)
    for shard in world.shards:
        rows = world.rows(shard.name)
        same(table[np.arange(rows.start, rows.stop)], world.signal(shard.name, 3))
    if scheme == "s3":
        assert pickle.loads(pickle.dumps(store)).load_view(3)[np.arange(5)].classes.shape == (5, 4)  # noqa: S301


class Folder(http.server.SimpleHTTPRequestHandler):
    """A folder with listings and without ranges."""

    def log_message(self, *_):
        pass


class Unlisted(Folder):
    def list_directory(self, path):
        self.send_error(404)


class Forbidden(Folder):
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        self.send_error(403)


def served(folder, handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}/store"


def test_http_is_read_through_the_cache_and_never_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    world = World()
    world.write(tmp_path / "store", 2)
    server, url = served(tmp_path, Folder)
    wanted = open_store(str(tmp_path / "store")).load_view(1)[np.arange(17)]
    same(open_store(url).load_view(1)[np.arange(17)], wanted)
    [path.unlink() for path in (tmp_path / "store/parts/v000-001").iterdir()]
    same(open_store(url).load_view(1)[np.arange(17)], wanted)
    with pytest.raises(CorruptStoreError, match="it is gone"):
        open_store(url).load_view(0)
    with pytest.raises(StoreError, match="can only be read"):
        world.open_writer(url.replace("store", "other"))
    server.shutdown()
    server.server_close()
    server, url = served(tmp_path, Unlisted)
    with pytest.raises(StoreError, match="lists no folders"):
        open_store(url)
    server.shutdown()
    server.server_close()


def test_what_is_forbidden_is_not_asked_for_again(tmp_path):
    server, url = served(tmp_path, Forbidden)
    with pytest.raises(StoreError, match=f"{url}/store.json: could not be read: .*403.*do not allow it"):
        open_store(url)
    assert Forbidden.requests == 1
    server.shutdown()
    server.server_close()


def test_pauses_grow_and_end():
    *waits, last = pauses()
    assert last is None
    assert len(waits) == 7
    assert all(0.05 * 2**i <= wait <= 0.1 * 2**i for i, wait in zip(itertools.count(), waits, strict=False))
