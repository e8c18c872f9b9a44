"""A lock beside a run's folder: one command trains in it at a time, and what a crashed one leaves is taken over.

It is a file with a heartbeat, which works on network file systems that have no locks of their own. No two machines'
clocks are compared: whoever finds the file watches whether it is touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from pld.errors import ConfigError
from pld.files import writing
from pld.process.owner import Owner, read_owner

_LOG = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
# Without a heartbeat for so long, longer than network file systems cache a file's times, an owner elsewhere is dead.
PATIENCE_SECONDS = 105.0
_POLL_SECONDS = 0.5


class RunLock:
    """The lock of a run's folder, held until `release`."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self._path, self._owner = path, owner
        self._released = threading.Event()
        threading.Thread(target=self._beat, name="run-lock", daemon=True).start()

    def check(self) -> None:
        """Raise ConfigError if another command took the lock over, as one may of a process that was suspended."""
        try:
            holder = read_owner(self._path)
            if holder is None:  # for a moment, while another command looks whether its owner is alive
                time.sleep(_POLL_SECONDS)
                holder = read_owner(self._path)
        except OSError:  # a file system that is away for a moment
            return
        if holder is None or holder.token != self._owner.token:
            raise ConfigError(taken_over(self._path, holder))

    def release(self) -> None:
        """Give the folder up."""
        self._released.set()
        with contextlib.suppress(OSError, ConfigError):
            self.check()
            self._path.unlink()

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            # Not of another command that took the lock over; nor while the file system is away for a moment.
            with contextlib.suppress(OSError, ConfigError):
                self.check()
                os.utime(self._path)


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[RunLock]:
    """Hold a run's folder, which need not be there yet.

    Where the lock is another machine's, wait for its next heartbeat, or until there should have been several.

    Raises:
        ConfigError: a command that is alive trains in the folder, which is named; or the folder is the root.
        OutputError: the lock cannot be written.
    """
    folder = folder.resolve()
    if not folder.name:
        raise ConfigError(f"--output {folder}: found the root of the file system, wanted a folder of the run's own")
    path, owner = folder.with_name(f".{folder.name}.lock"), Owner.this_process()
    with writing(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        while not _create(path, owner):
            holder, stamp = read_owner(path), _stamp(path)
            if stamp is None:
                continue  # given up meanwhile
            if _is_alive(path, holder, stamp):
                raise ConfigError(in_use(folder, holder))
            _remove_dead(path, holder)
    lock = RunLock(path, owner)
    try:
        yield lock
    finally:
        lock.release()


def _create(path: Path, owner: Owner) -> bool:
    """Create the lock unless it is there; raises OSError, and leaves nothing, where it cannot be written."""
    temporary = path.with_name(f"{path.name}.{owner.token}")
    try:
        temporary.write_text(json.dumps(dataclasses.asdict(owner)))
        return _link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> bool:
    """Give a file another name unless that is taken; whether it was free."""
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    except OSError:  # no hard links: a reader may find the file before its text, and then waits
        text = temporary.read_text()
    try:
        with path.open("x") as file:
            file.write(text)
        return True
    except FileExistsError:
        return False
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _stamp(path: Path) -> int | None:
    """When the lock was last touched, by its file system's clock; None where it is gone."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _is_alive(path: Path, holder: Owner | None, stamp: int) -> bool:
    """Whether the holder lives: asked of the system if it is this one, else seen by a heartbeat."""
    if holder and holder.is_local:
        return holder.lives()
    _LOG.info(waiting_for(path, holder, PATIENCE_SECONDS))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        now = _stamp(path)
        if now is None:
            return False
        if now != stamp:
            return True
    return False


def _remove_dead(path: Path, holder: Owner | None) -> None:
    """Remove a dead holder's lock, of several commands that find it once; a lock that is new by then is put back."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    try:
        is_dead = read_owner(aside) == holder
    except OSError:  # a file system that is away for a moment
        is_dead = False
    if not is_dead:
        _link(aside, path)  # where another one is there by then, whoever lost it finds out when it checks
    aside.unlink()


def waiting_for(where: object, holder: Owner | None, seconds: float) -> str:
    """What is said while a holder elsewhere is waited for, so many seconds."""
    who = f"process {holder.process} on {holder.host}" if holder else "another command"
    return f"{where}: {who} had this run and has not said that it ended; waiting up to {seconds:.0f} s for a sign of it"


def taken_over(where: object, holder: Owner | None) -> str:
    """The error's text of a run that another command took over."""
    by = f"process {holder.process} on {holder.host}" if holder else "another command"
    return (
        f"{where}: {by} has taken this run over, since this process was not heard of for more than "
        f"{PATIENCE_SECONDS:.0f} s; it goes on there"
    )


def in_use(where: object, holder: Owner | None) -> str:
    """The error's text of a run that another command has."""
    who = f"process {holder.process} on {holder.host} has, since {holder.since}" if holder else "another command has"
    return (
        f"{where}: is in use: {who}. Wait for it or stop it (kill -TERM saves a checkpoint), or name another folder "
        "with --output"
    )
