"""A run on an object store and its working folder on this machine: everything is written there first, then pushed.

A run is begun once its config.yaml is there. The object store is the truth: the working folder is made like it when a
command starts, unless it holds a later checkpoint of the same run, which could not be pushed.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from pathlib import Path

from pld.errors import ConfigError, NotCachedError, OutputError, StoreError
from pld.files import write_atomically, writing
from pld.remote.cache_folder import cache_folder
from pld.remote.driver import without_password
from pld.remote.retry import advice
from pld.store.objects.fsspec_storage import FsspecStorage
from train_student.loop.checkpoint import PATTERN
from train_student.run.bucket.checkpoints import FOLDER as CHECKPOINTS
from train_student.run.bucket.checkpoints import BucketCheckpoints
from train_student.run.bucket.lock import FOLDER as LOCK
from train_student.run.bucket.lock import BucketLock

_LOG = logging.getLogger(__name__)

_CONFIG, _FACTS, _METRICS = "config.yaml", "run.json", "metrics.jsonl"
# The metrics last: an epoch that is logged has its model.
_CHANGING = ("model/config.json", "model/model.safetensors", _METRICS)
_MAX_TEXT_BYTES = 2**28


def working_folder(url: str) -> Path:
    """Where a machine writes a run on an object store first: in the cache folder, by the URL."""
    url = without_password(url)
    digest = hashlib.sha256(url.encode()).hexdigest()
    return cache_folder().absolute() / "runs" / f"{url.rpartition('/')[2]}-{digest[:12]}"


class Mirror:
    """A run on an object store and its working folder.

    Attributes:
        url: of the run.
        folder: the working folder.
    """

    def __init__(self, storage: FsspecStorage, folder: Path, keep: int, lock: BucketLock | None = None) -> None:
        """A mirror of which nothing is pulled or pushed yet.

        Args:
            storage: where the run is.
            folder: the working folder.
            keep: how many checkpoints stay in the object store.
            lock: of the run there; a process without it only pulls.
        """
        self.url, self.folder = storage.url, folder
        self._storage, self._checkpoints, self._lock = storage, BucketCheckpoints(storage, keep), lock
        self._pushed: dict[str, tuple[int, int, int]] = {}
        self._pushed_checkpoint: str | None = None

    def pull(self) -> None:
        """Make the working folder what the run is: empty where it is not begun.

        Raises:
            ConfigError: something else is at the URL, or the run's checkpoints are all damaged.
            StoreError: the object store does not answer.
            OutputError: the working folder cannot be written.
        """
        facts = self._storage.read(_FACTS, _MAX_TEXT_BYTES) if self._is_begun() else None
        if facts is None or facts != self._local(_FACTS):
            self._clear()
        if facts is not None:
            for name in (_FACTS, _CONFIG, _METRICS):
                self._pull_text(name)
            self._checkpoints.pull(self.folder / CHECKPOINTS)
            newest = self._newest()
            self._pushed_checkpoint = newest.name if newest else None

    def push_unpushed(self) -> bool:
        """Push what an earlier command left here if it came further than the object store; whether it did.

        Raises:
            StoreError: it cannot be pushed.
        """
        ours, theirs = self._newest(), self._checkpoints.steps()
        if ours is None or theirs[-1:] >= [ours.stem] or not self._is_begun():
            return False
        if self._storage.read(_FACTS, _MAX_TEXT_BYTES) != self._local(_FACTS):
            return False
        self._push_changes()
        return True

    def begin(self) -> None:
        """Put a new run's run.json and config.yaml; raises StoreError."""
        for name in (_FACTS, _CONFIG):
            self._storage.put_file(name, self.folder / name)

    def push(self) -> None:
        """Push what has changed; where the object store fails, say so and go on.

        Raises:
            ConfigError: another command has taken the run over.
        """
        try:
            self._push_changes()
        except StoreError as error:
            there = self._pushed_checkpoint or "no checkpoint"
            _LOG.warning(
                "%s: could not be pushed to: %s. Training goes on, and the next checkpoint is pushed in its place; "
                "until then there is %s",
                *(self.url, _reason(error), there),
            )

    def finish(self) -> None:
        """Push what could not be pushed before.

        Raises:
            OutputError: it still cannot; the run's end is in the working folder alone.
            ConfigError: another command has taken the run over.
        """
        try:
            self._push_changes()
        except StoreError as error:
            raise OutputError(
                f"{self.url}: the run's end could not be pushed: {_reason(error)}. It is in {self.folder}: give the "
                "same command with --resume auto on this machine to push it"
            ) from error

    def _is_begun(self) -> bool:
        """Whether a run is there; raises ConfigError where there is something else."""
        if self._storage.exists(_CONFIG):
            return True
        # A run that was killed when it began has its run.json alone.
        others = [name for name in self._storage.list("") if name != _FACTS and not name.startswith(f"{LOCK}/")]
        if others:
            raise ConfigError(
                f"{self.url}: is there and is not a run's folder (found {others[0]}); name another with --output"
            )
        return False

    def _pull_text(self, name: str) -> None:
        path = self.folder / name
        try:
            data = self._storage.read(name, _MAX_TEXT_BYTES)
        except NotCachedError:
            path.unlink(missing_ok=True)
            return
        with writing(path), write_atomically(path, unique=False) as temporary:
            temporary.write_bytes(data)

    def _clear(self) -> None:
        """Empty the working folder of what is not this run's; checkpoints, which may be the only ones, are kept."""
        with writing(self.folder):
            if self._newest():
                aside = self.folder.with_name(f"{self.folder.name}.before-{time.time():.0f}")
                self.folder.rename(aside)
                _LOG.warning("%s: has not the run that was in %s, which is kept as %s", self.url, self.folder, aside)
            elif self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)

    def _push_changes(self) -> None:
        if self._lock:
            self._lock.check()
        for name in _CHANGING:
            path = self.folder / name
            if path.is_file() and (stamp := _stamp(path)) != self._pushed.get(name):
                self._storage.put_file(name, path)
                self._pushed[name] = stamp
        newest = self._newest()
        if newest and newest.name != self._pushed_checkpoint:
            start = time.monotonic()
            self._checkpoints.push(newest)
            self._pushed_checkpoint = newest.name
            _LOG.debug("%s: pushed %s in %.1f s", self.url, newest.name, time.monotonic() - start)

    def _newest(self) -> Path | None:
        """The last checkpoint in the working folder."""
        return max((self.folder / CHECKPOINTS).glob(PATTERN), default=None)

    def _local(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file does."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _reason(error: StoreError) -> str:
    """What the object store said, without advice that is for other commands."""
    return advice(error.__cause__) if isinstance(error.__cause__, Exception) else str(error)
