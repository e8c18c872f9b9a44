"""Checkpoints on an object store: one counts once a document that is put after it says its size and digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Literal

import msgspec

from pld.errors import ConfigError, CorruptStoreError, NotCachedError
from pld.files import write_atomically, writing
from pld.store.objects.fsspec_storage import FsspecStorage
from train_student.loop.checkpoint import PATTERN

_LOG = logging.getLogger(__name__)

FOLDER = "checkpoints"
_DATA, _COMMIT = ".safetensors", ".json"
_PIECE_BYTES = 64 * 2**20
_MAX_COMMIT_BYTES = 2**16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commit:
    """What says that a checkpoint is there, whole.

    Attributes:
        format: of this document.
        bytes: the checkpoint's size.
        sha256: of its bytes, in hex.
    """

    format: Literal["pld-run-checkpoint/1"]
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Commit:
        """Of a local file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(format="pld-run-checkpoint/1", bytes=path.stat().st_size, sha256=digest)


class BucketCheckpoints:
    """The checkpoints of a run on an object store: `checkpoints/step-000001234.safetensors` and `.json`."""

    def __init__(self, storage: FsspecStorage, keep: int) -> None:
        self._storage, self._keep = storage, keep

    def steps(self) -> list[str]:
        """Those that are committed, oldest first, as `step-000001234`."""
        return _committed(self._storage.list(FOLDER))

    def push(self, path: Path) -> None:
        """Put a local checkpoint and then its commit, then remove all but the last few and what killed pushes left.

        Raises:
            StoreError: it could not be put; what was there before is there still.
        """
        commit = json.dumps(dataclasses.asdict(Commit.of(path))).encode()
        self._storage.put_file(_data(path.stem), path)
        self._storage.put(_commit(path.stem), commit)
        names = self._storage.list(FOLDER)
        # Later ones than this were damaged, or the run would have gone on from them.
        kept = [step for step in _committed(names) if step <= path.stem][-self._keep :]
        # Commits, which end in .json, before what they are of.
        for name in sorted(names, key=lambda name: not name.endswith(_COMMIT)):
            if Path(name).stem not in kept:
                self._storage.delete(name)

    def pull(self, folder: Path) -> None:
        """Make the newest whole checkpoint the only one in a local folder; none where none is committed.

        Raises:
            ConfigError: there are some and none is whole; each is named.
            StoreError: the object store does not answer.
            OutputError: the folder cannot be written.
        """
        broken, pulled = [], None
        for step in reversed(self.steps()):
            try:
                pulled = self._pull_step(step, folder)
                break
            except (CorruptStoreError, NotCachedError) as error:
                broken.append(str(error))
        if broken and not pulled:
            where = f"{self._storage.url}/{FOLDER}"
            raise ConfigError(f"{'; '.join(broken)}. Remove {where} to start from the beginning")
        for line in broken:
            _LOG.warning("%s; an earlier checkpoint is taken", line)
        for path in folder.glob(PATTERN):
            if path != pulled:
                path.unlink(missing_ok=True)

    def _pull_step(self, step: str, folder: Path) -> Path:
        """Fetch a checkpoint unless the folder has it; raises CorruptStoreError where it is not what was committed."""
        commit, path = self._read_commit(step), folder / f"{step}{_DATA}"
        if path.is_file() and Commit.of(path) == commit:
            return path
        digest = hashlib.sha256()
        with (
            writing(path),
            write_atomically(path, unique=False, durable=True) as temporary,
            temporary.open("wb") as file,
        ):
            for start in range(0, commit.bytes, _PIECE_BYTES):
                size = min(_PIECE_BYTES, commit.bytes - start)
                piece = self._storage.read_range(_data(step), start, size)
                digest.update(piece)
                file.write(piece)
            if digest.hexdigest() != commit.sha256:
                raise CorruptStoreError(f"{self._storage.url}/{_data(step)}: other bytes than were committed")
        return path

    def _read_commit(self, step: str) -> Commit:
        try:
            return msgspec.json.decode(self._storage.read(_commit(step), _MAX_COMMIT_BYTES), type=Commit)
        except msgspec.MsgspecError as error:
            raise CorruptStoreError(f"{self._storage.url}/{_commit(step)}: cannot be read: {error}") from error


def _committed(names: list[str]) -> list[str]:
    return [Path(name).stem for name in names if name.endswith(_COMMIT)]


def _data(step: str) -> str:
    return f"{FOLDER}/{step}{_DATA}"


def _commit(step: str) -> str:
    return f"{FOLDER}/{step}{_COMMIT}"
