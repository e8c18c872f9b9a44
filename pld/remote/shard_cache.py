"""Whole image shards kept on the local disk: within a bound, shared by the processes of a machine, killed at any time.

All bookkeeping is the folder itself. A shard that is wanted is held by a shared lock on its file, one that is being
fetched by an exclusive lock on its `.part`, which has its full size from the start, so that the sizes of the files are
what is taken. The kernel drops the locks of killed processes. One lock for the folder orders everything but the
fetching. Nothing breaks where a file vanishes: what is not here is read from where it came from.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pld.errors import ConfigError, OutputError
from pld.remote.cache_folder import bytes_from_environment, cache_folder, files_in

LIMIT_VARIABLE = "PLD_IMAGE_CACHE_BYTES"
DEFAULT_CACHE_BYTES = 200 * 10**9
_PART = ".part"
_POLL_SECONDS = 0.05
# What others hold becomes free as they go on; who waits longer than this waits for something that does not.
_PATIENCE_SECONDS = 900.0


class StoppedError(Exception):
    """The wait for a shard was cancelled."""


class HeldShard:
    """A whole shard on the local disk, which nobody removes before `release`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file

    def release(self) -> None:
        """Let it be removed when room is needed."""
        with self._file:
            with contextlib.suppress(OSError):
                os.utime(self._file.fileno())
            # By name: closing alone would not do it while a forked process has the file open too.
            fcntl.flock(self._file, fcntl.LOCK_UN)


class ShardCache:
    """Shards under names, in at most `max_bytes` of disk."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._opened_at = time.time()

    @classmethod
    def from_environment(cls) -> ShardCache:
        """In the cache folder, of $PLD_IMAGE_CACHE_BYTES; raises ConfigError where that is no number."""
        return cls(cache_folder() / "shards", bytes_from_environment(LIMIT_VARIABLE, DEFAULT_CACHE_BYTES))

    def read(self, name: str, offset: int, num_bytes: int) -> bytes | None:
        """Bytes of a shard, None where it is not here."""
        try:
            with (self.folder / name).open("rb", buffering=0) as file:
                return os.pread(file.fileno(), num_bytes, offset)
        except OSError:
            return None

    def hold(self, name: str, num_bytes: int, fetch: Callable[[BinaryIO], None], stop: threading.Event) -> HeldShard:
        """The shard; fetched where it is not here, by one of all threads and processes that want it.

        Args:
            name: a file name that says the content.
            num_bytes: its size.
            fetch: writes it, `num_bytes` in all, into a file; what it raises is passed on and nothing is left.
            stop: ends waiting for others.

        Raises:
            ConfigError: the bound is smaller than the shard, or others hold all of it and do not go on.
            OutputError: the folder cannot be written.
            StoppedError: `stop` was set.
        """
        if num_bytes > self.max_bytes:
            raise ConfigError(f"{LIMIT_VARIABLE}: {self.max_bytes:,} bytes; wanted at least a shard's {num_bytes:,}")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            with self._lock_folder():
                if held := self._open_held(name, num_bytes):
                    return held
                part = self._begin(name, num_bytes)
            if part:
                return self._finish(part, name, fetch)
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"{LIMIT_VARIABLE}: {self.max_bytes:,} bytes in {self.folder}, all of them in use by other "
                    "processes; raise it, or give this run a PLD_CACHE of its own"
                )
            if stop.wait(_POLL_SECONDS):
                raise StoppedError

    def _open_held(self, name: str, num_bytes: int) -> HeldShard | None:
        path = self.folder / name
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        if os.fstat(file.fileno()).st_size != num_bytes:  # a disk that lost the end of it
            file.close()
            path.unlink()
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        return HeldShard(path, file)

    def _begin(self, name: str, num_bytes: int) -> BinaryIO | None:
        """A `.part` of this size, locked; None where another is fetching the shard, or there is no room yet."""
        path = self.folder / (name + _PART)
        if not _delete_unless_held(path) or not self._make_room(num_bytes):
            return None
        file = path.open("x+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        except BaseException:
            path.unlink()
            file.close()
            raise
        return file

    def _finish(self, file: BinaryIO, name: str, fetch: Callable[[BinaryIO], None]) -> HeldShard:
        path, part = self.folder / name, Path(file.name)
        try:
            with self._explain_failure():
                fetch(file)
                file.flush()
                os.fsync(file.fileno())
            with self._lock_folder():
                part.replace(path)
                fcntl.flock(file, fcntl.LOCK_SH)
        except BaseException:
            with contextlib.suppress(OutputError), self._lock_folder():
                part.unlink(missing_ok=True)
            file.close()
            raise
        return HeldShard(path, file)

    def _make_room(self, num_bytes: int) -> bool:
        """Remove what nobody holds until the bytes fit: first what earlier runs left, then what was used last.

        An epoch's order is new each time, so of this run's shards those that it has used wait longest for their next
        use. The usual rule, to remove what was used longest ago, would remove those that are about to be used.
        """
        files = [(status, path) for status, path in files_in(self.folder) if not path.name.startswith(".")]
        excess = sum(status.st_size for status, _ in files) + num_bytes - self.max_bytes
        for status, path in sorted(files, key=lambda file: self._eviction_order(file[0].st_mtime)):
            if excess <= 0:
                break
            if _delete_unless_held(path):
                excess -= status.st_size
        return excess <= 0

    def _eviction_order(self, used_at: float) -> tuple[bool, float]:
        ours = used_at >= self._opened_at
        return ours, -used_at if ours else used_at

    @contextlib.contextmanager
    def _lock_folder(self) -> Iterator[None]:
        with self._explain_failure():
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / ".lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    yield
                finally:
                    fcntl.flock(lock, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _explain_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"{self.folder}: image shards cannot be kept there: {error.strerror or error}; make room, lower "
                f"{LIMIT_VARIABLE} (now {self.max_bytes:,}), or name a folder on a larger disk with PLD_CACHE"
            ) from error


def _delete_unless_held(path: Path) -> bool:
    """Remove a file unless somebody holds it; whether it is gone."""
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
