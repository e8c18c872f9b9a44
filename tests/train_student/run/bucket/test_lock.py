"""One command trains in a run on a bucket at a time, and none is locked out by one that crashed."""

import dataclasses
import json
import queue
import threading

import pytest

from pld.errors import ConfigError
from pld.store.objects.fsspec_storage import FsspecStorage
from train_student.run.bucket import lock
from train_student.run.bucket.lock import lock_bucket
from train_student.run.lock import Owner

ELSEWHERE = {"host": "node7", "space": "other", "process": 5}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in {"PATIENCE_SECONDS": 1.0, "_POLL_SECONDS": 0.02, "HEARTBEAT_SECONDS": 0.1}.items():
        monkeypatch.setattr(lock, name, seconds)


def leave(storage, number=1, **owner):
    """What a command that was killed leaves."""
    text = json.dumps(dataclasses.asdict(dataclasses.replace(Owner.this_process(), **owner)))
    storage.put(f"lock/{number:09d}.json", text.encode())


def test_a_lock_is_given_up_and_its_number_used_once(storage):
    for number in (1, 2):
        with lock_bucket(storage) as held:
            held.check()
        assert storage.list("lock")[-2:] == [f"lock/{number:09d}.done", f"lock/{number:09d}.json"]
    assert all("000000002" in name for name in storage.list("lock"))


def test_a_second_command_is_refused_and_told_who_has_it(storage, url):
    refused = pytest.raises(ConfigError, match=f"{url}: is in use: process [0-9]+ on .+ has, since 20")
    with lock_bucket(storage), refused, lock_bucket(storage):
        pass


def test_a_killed_owner_of_this_machine_locks_nobody_out(storage, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 1e9)
    leave(storage, started="1")
    with lock_bucket(storage) as held:
        held.check()


def test_of_another_machine_a_beat_says_that_it_lives(storage):
    leave(storage, **ELSEWHERE)
    beating = lock.BucketLock(storage, 1)
    with pytest.raises(ConfigError, match="process 5 on node7"):
        lock_bucket(storage).__enter__()
    beating.release()
    with lock_bucket(storage):
        pass


def test_of_another_machine_silence_says_that_it_is_dead(storage, console):
    leave(storage, **ELSEWHERE)
    storage.put("lock/000000001.beat", b"7")
    with lock_bucket(storage) as held:
        held.check()
    assert (
        "process 5 on node7 had this run and has not said that it ended; waiting up to 1 s" in console.readouterr().out
    )
    assert not [name for name in storage.list("lock") if "000000001" in name]


def test_who_was_not_heard_of_for_too_long_is_told(storage):
    with lock_bucket(storage) as held:
        leave(storage, 2, **ELSEWHERE)
        with pytest.raises(ConfigError, match="process 5 on node7 has taken this run over"):
            held.check()


def test_a_number_that_was_used_meanwhile_is_not_held(storage, monkeypatch):
    """A command that looked long ago creates the number after the one that it saw, which had its holder already."""
    looked = lock._last_number
    answers = iter([1])
    monkeypatch.setattr(lock, "_last_number", lambda storage: next(answers, None) or looked(storage))
    storage.put("lock/000000001.done", b"")
    leave(storage, 3)
    with pytest.raises(ConfigError, match="is in use"):
        lock_bucket(storage).__enter__()
    assert storage.list("lock") == ["lock/000000001.done", "lock/000000003.json"]


@pytest.mark.parametrize("left", [False, True])
def test_of_several_at_once_exactly_one_gets_it(bucket, left):
    """Also where all find what a dead owner left."""
    storage = FsspecStorage(f"{bucket}/run")
    if left:
        leave(storage, started="1")
    barrier, results, done = threading.Barrier(6), queue.Queue(), threading.Event()

    def contend():
        barrier.wait()
        try:
            with lock_bucket(storage):
                results.put("held")
                done.wait()
        except ConfigError:
            results.put("refused")

    threads = [threading.Thread(target=contend) for _ in range(6)]
    [thread.start() for thread in threads]
    found = sorted(results.get(timeout=60) for _ in threads)
    done.set()
    [thread.join() for thread in threads]
    assert found == ["held", *["refused"] * 5]
