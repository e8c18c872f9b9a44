"""The cache of remote ranges: checked bytes alone, bounded, shared by processes, harmless where it cannot be."""

import multiprocessing
import os
import uuid

import numpy as np
import pytest

from pld.errors import ConfigError, CorruptStoreError, NotCachedError
from pld.store.objects.fsspec_storage import FsspecStorage
from pld.store.objects.local_storage import LocalStorage
from pld.store.objects.open import open_storage
from pld.store.objects.range_cache import RangeCache
from tests.store.world import tree


@pytest.fixture
def cached(tmp_path):
    """A storage of one part of 1000 bytes behind a cache, and a check that knows them."""
    data = np.random.default_rng(1).bytes(1000)
    inner = LocalStorage(tmp_path / "store")
    inner.put("parts/p", data)

    def check(found):
        if found != data[100:200]:
            raise CorruptStoreError("other bytes")

    storage = FsspecStorage((tmp_path / "store").as_uri(), RangeCache(tmp_path / "ranges", 10**6))
    return storage, inner, check, tmp_path / "ranges"


def test_only_what_was_checked_is_kept_and_it_is_checked_again(cached):
    storage, inner, check, folder = cached
    storage.read_range("parts/p", 100, 100)
    assert tree(folder) == {}
    inner.put("parts/p", bytes(1000))
    with pytest.raises(CorruptStoreError, match="other bytes"):
        storage.read_range("parts/p", 100, 100, check)
    assert tree(folder) == {}
    inner.put("parts/p", np.random.default_rng(1).bytes(1000))
    data = storage.read_range("parts/p", 100, 100, check)
    assert list(tree(folder).values()) == [data]
    inner.delete("parts/p")
    assert storage.read_range("parts/p", 100, 100, check) == data
    next(path for path in folder.rglob("*") if path.is_file()).write_bytes(b"damaged")
    with pytest.raises(NotCachedError):
        storage.read_range("parts/p", 100, 100, check)
    inner.put("parts/p", np.random.default_rng(1).bytes(1000))
    assert storage.read_range("parts/p", 100, 100, check) == data
    assert list(tree(folder).values()) == [data]


def test_the_cache_keeps_what_was_used_last_within_its_bytes(tmp_path):
    cache = RangeCache(tmp_path, 64 * 1000)
    keys = [f"key {number}" for number in range(2000)]
    for key in keys:
        cache.put(key, key.encode().ljust(300))
        cache.get(keys[0])
    held = [key for key in keys if cache.get(key) is not None]
    assert sum(len(data) for data in tree(tmp_path).values()) <= 64 * 1000
    assert len(held) > 150
    assert keys[0] in held
    assert keys[-1] in held
    assert all(cache.get(key) == key.encode().ljust(300) for key in held)
    cache.put("large", bytes(1001))
    assert cache.get("large") is None


def _fill(folder, seed):
    cache = RangeCache(folder, 64 * 1000)
    for number in range(300):
        cache.put(f"{seed} {number}", bytes(300))
        body = cache.get(f"{1 - seed} {number}")
        assert body in (None, bytes(300))


def test_many_processes_share_a_cache(tmp_path):
    stray = tmp_path / "00" / f"{uuid.uuid4().hex}.tmp"
    stray.parent.mkdir()
    stray.write_bytes(bytes(990))
    os.utime(stray, (1, 1))
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_fill, args=(tmp_path, seed)) for seed in range(2)]
    [child.start() for child in children]
    [child.join() for child in children]
    assert [child.exitcode for child in children] == [0, 0]
    files = tree(tmp_path)
    assert sum(map(len, files.values())) <= 64 * 1000
    assert not any(name.endswith(".tmp") for name in files)


def test_a_cache_that_cannot_be_written_and_one_of_no_size(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    for cache in (RangeCache(tmp_path / "file", 10**6), RangeCache(tmp_path / "none", 0)):
        cache.put("key", b"x")
        assert cache.get("key") is None
    monkeypatch.setenv("PLD_CACHE_BYTES", "20GB")
    with pytest.raises(ConfigError, match="PLD_CACHE_BYTES: found '20GB', wanted a number of bytes"):
        open_storage("memory://x")
