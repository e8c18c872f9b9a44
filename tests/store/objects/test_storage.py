"""LocalStorage: whole objects, one winner, no way out of the folder."""

import threading

import pytest

from pld.errors import CorruptStoreError, NotCachedError
from pld.store.objects.local_storage import LocalStorage
from pld.store.objects.open import open_storage
from pld.store.write.garbage import plan_sweep


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path)


def test_objects_come_back_whole_and_in_ranges(storage):
    storage.put("a/b.bin", bytes(range(100)))
    assert storage.read("a/b.bin", 100) == bytes(range(100))
    assert storage.read_range("a/b.bin", 10, 5) == bytes(range(10, 15))
    assert storage.list("") == storage.list("a") == ["a/b.bin"]
    storage.delete("a/b.bin")
    storage.delete("a/b.bin")
    assert not storage.exists("a/b.bin")


def test_exactly_one_of_many_writers_creates_an_object(storage):
    barrier, won = threading.Barrier(8), []

    def write(number):
        barrier.wait()
        if storage.put_exclusive("x", bytes([number]) * 1000):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(won) == 1
    assert storage.read("x", 1000) == bytes(won) * 1000
    assert storage.leftovers() == {}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a//b", "a/.hidden", "", "a/", "a\nb", "ä"])
def test_names_that_could_lead_out_are_refused(storage, name):
    for use in (lambda: storage.read(name, 9), lambda: storage.put(name, b""), lambda: storage.exists(name)):
        with pytest.raises(CorruptStoreError, match="out of the store"):
            use()


def test_what_is_missing_cut_or_too_large_is_said(storage):
    storage.put("x", b"0123456789")
    with pytest.raises(NotCachedError, match="no such file"):
        storage.read("y", 10)
    with pytest.raises(CorruptStoreError, match="found 10 bytes, wanted at most 9"):
        storage.read("x", 9)
    with pytest.raises(CorruptStoreError, match="the end after 2 of 5 bytes from byte 8"):
        storage.read_range("x", 8, 5)


def test_folders_may_be_given_as_urls(tmp_path):
    assert open_storage(f"file://{tmp_path}").url == open_storage(str(tmp_path)).url == str(tmp_path)


def test_a_winners_sweep_under_a_running_writer_makes_it_lose_and_not_fail(storage, monkeypatch):
    from pld.store.objects import local_storage as module

    def swept_then_link(temporary, path):
        path.write_bytes(b"winner")
        temporary.unlink()
        raise FileNotFoundError(temporary)

    monkeypatch.setattr(module.os, "link", swept_then_link)
    assert storage.put_exclusive("x", b"loser") is False
    assert storage.read("x", 10) == b"winner"


def test_leftovers_are_seen_and_not_listed(storage, tmp_path):
    stray = f".train-0000.json.{'0' * 32}.tmp"
    storage.put("commits/v000-009/train-0001.json", b"")
    (tmp_path / "commits/v000-009" / stray).touch()
    assert storage.list("") == ["commits/v000-009/train-0001.json"]
    assert storage.leftovers() == {f"commits/v000-009/{stray}": "commits/v000-009/train-0000.json"}


def test_a_sweep_takes_what_is_certainly_garbage_and_nothing_else():
    objects = ["store.json", "parts/b/a-1.zip", "parts/b/a-2.zip", "parts/c/a-3.zip"]
    leftovers = {
        ".store": "store.json",
        "parts/b/.t1": "parts/b/a-9.zip",
        "parts/c/.t2": "parts/c/a-8.zip",
        "parts/c/.t3": "parts/c/a-3.zip",
    }
    garbage = plan_sweep(objects, leftovers, {"parts/b": {"parts/b/a-2.zip"}})
    assert garbage == sorted([".store", "parts/b/.t1", "parts/b/a-1.zip", "parts/c/.t3"])
