"""A lock of a run on an object store: one command trains in it at a time, and what a crashed one leaves is taken over.

Holders are numbered. Whoever creates `lock/N.json`, which only one command can, holds the run while there is no higher
number. It puts `lock/N.beat` again and again, and `lock/N.done` when it gives the run up. The next number is created
after that, or when no beat came for long. No object is written by two commands, so none undoes what another one wrote.
Where the object store cannot create exclusively, two commands that start in the same moment may both get the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import threading
import time
from collections.abc import Iterator

from pld.errors import ConfigError, NotCachedError, StoreError
from pld.process.owner import Owner, decode_owner
from pld.store.objects.fsspec_storage import FsspecStorage
from train_student.run.lock import HEARTBEAT_SECONDS, PATIENCE_SECONDS, in_use, taken_over, waiting_for

_LOG = logging.getLogger(__name__)

FOLDER = "lock"
_MAX_BYTES = 2**16
_POLL_SECONDS = 2.0


class BucketLock:
    """The lock of a run on an object store, held until `release`."""

    def __init__(self, storage: FsspecStorage, number: int) -> None:
        self._storage, self._number = storage, number
        self._released = threading.Event()
        threading.Thread(target=self._beat, name="bucket-lock", daemon=True).start()

    def check(self) -> None:
        """Raise ConfigError if another command took the lock over, StoreError if the object store does not answer."""
        if (last := _last_number(self._storage)) > self._number:
            raise ConfigError(taken_over(self._storage.url, _read_owner(self._storage, last)))

    def release(self) -> None:
        """Give the run up."""
        self._released.set()
        with contextlib.suppress(StoreError):  # the next command waits for a beat that does not come
            self._storage.put(_name(self._number, "done"), b"")

    def _beat(self) -> None:
        count = 0
        while not self._released.wait(HEARTBEAT_SECONDS):
            count += 1
            with contextlib.suppress(StoreError):
                self._storage.put(_name(self._number, "beat"), str(count).encode())


@contextlib.contextmanager
def lock_bucket(storage: FsspecStorage) -> Iterator[BucketLock]:
    """Hold a run on an object store.

    Where the last holder is another machine's and did not give the run up, wait for its next beat, or until there
    should have been several.

    Raises:
        ConfigError: a command that is alive has the run; says which.
        StoreError: the object store does not answer, or cannot be written.
    """
    lock = BucketLock(storage, _take(storage))
    try:
        yield lock
    finally:
        lock.release()


def _take(storage: FsspecStorage) -> int:
    """The number under which this command holds the run."""
    text = json.dumps(dataclasses.asdict(Owner.this_process())).encode()
    while True:
        last = _last_number(storage)
        holder = _read_owner(storage, last) if last else None
        if last and _is_alive(storage, last, holder):
            raise ConfigError(in_use(storage.url, holder))
        if not storage.put_exclusive(_name(last + 1, "json"), text):
            continue
        if _last_number(storage) == last + 1:
            for name in storage.list(FOLDER):
                if _number(name) <= last:
                    storage.delete(name)
            return last + 1
        # This number had been used and removed since this command looked.
        storage.delete(_name(last + 1, "json"))


def _name(number: int, kind: str) -> str:
    return f"{FOLDER}/{number:09d}.{kind}"


def _number(name: str) -> int:
    """Of an object of a lock; 0 of any other."""
    digits = name.removeprefix(f"{FOLDER}/").partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


def _last_number(storage: FsspecStorage) -> int:
    """Of the last holder; 0 where there never was one."""
    return max((_number(name) for name in storage.list(FOLDER) if name.endswith(".json")), default=0)


def _read_owner(storage: FsspecStorage, number: int) -> Owner | None:
    """Who holds the run under a number; None where that is gone or cannot be understood."""
    try:
        return decode_owner(storage.read(_name(number, "json"), _MAX_BYTES))
    except NotCachedError:
        return None


def _is_alive(storage: FsspecStorage, number: int, holder: Owner | None) -> bool:
    """Whether a holder lives and has the run still: asked of the system if it is this one, else seen by beats."""
    if storage.exists(_name(number, "done")):
        return False
    if holder and holder.is_local:
        return holder.lives()
    _LOG.info(waiting_for(storage.url, holder, PATIENCE_SECONDS))
    before, deadline = _read_beat(storage, number), time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        if storage.exists(_name(number, "done")):
            return False
        if _read_beat(storage, number) != before:
            return True
    return False


def _read_beat(storage: FsspecStorage, number: int) -> bytes | None:
    try:
        return storage.read(_name(number, "beat"), _MAX_BYTES)
    except NotCachedError:
        return None
