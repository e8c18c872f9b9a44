"""LocalStorage: a store's objects as files in a folder."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pld.errors import CorruptStoreError, NotCachedError, StoreError
from pld.files import fsync, temporary_path
from pld.store.objects.exclusive import create
from pld.store.objects.storage import Check, checked_name, object_names

_TEMPORARY = re.compile(r"\.(?P<target>.+)\.[0-9a-f]{32}\.tmp")


class LocalStorage:
    """A folder. Objects are staged in a temporary file in the same folder, synced, then linked or renamed."""

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._root = root

    def read(self, name: str, max_bytes: int) -> bytes:
        """See Storage."""
        with self._open(name) as file:
            num_bytes = os.fstat(file.fileno()).st_size
            if num_bytes > max_bytes:
                raise CorruptStoreError(f"{self._path(name)}: found {num_bytes} bytes, wanted at most {max_bytes}")
            return file.read(num_bytes)

    def read_range(self, name: str, offset: int, num_bytes: int, check: Check | None = None) -> bytes:
        """See Storage."""
        with self._open(name) as file:
            file.seek(offset)
            data = file.read(num_bytes)
        if len(data) != num_bytes:
            raise CorruptStoreError(
                f"{self._path(name)}: found the end after {len(data)} of {num_bytes} bytes from byte {offset}: "
                "the file was cut; `pld verify STORE --repair delete` takes it out, then cache or copy it again"
            )
        if check:
            check(data)
        return data

    def put(self, name: str, data: bytes) -> None:
        """See Storage."""
        path = self._path(name)
        with self._stage(path, data) as temporary:
            temporary.replace(path)

    def put_exclusive(self, name: str, data: bytes) -> bool:
        """See Storage."""
        path = self._path(name)
        if path.exists():
            return False
        with self._stage(path, data) as temporary:
            return create(temporary, path, data)

    def exists(self, name: str) -> bool:
        """See Storage."""
        return self._path(name).is_file()

    def list(self, prefix: str) -> list[str]:
        """See Storage."""
        return object_names(self._walk(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """See Storage."""
        found = {}
        for name in self.list(prefix):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                found[name] = (self._root / name).stat().st_size
        return found

    def leftovers(self) -> dict[str, str]:
        """See Storage."""
        found = {}
        for name in self._walk(""):
            folder, _, base = name.rpartition("/")
            if match := _TEMPORARY.fullmatch(base):
                found[name] = f"{folder}/{match['target']}".removeprefix("/")
        return found

    def delete(self, name: str) -> None:
        """See Storage."""
        with self._explain_failure(self._root / name):
            (self._root / name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._root / checked_name(name, self.url)

    def _walk(self, prefix: str) -> Iterator[str]:
        for folder, _, files in os.walk(self._root / prefix):
            for file in files:
                yield (Path(folder) / file).relative_to(self._root).as_posix()

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        path = self._path(name)
        try:
            with path.open("rb") as file:
                yield file
        except FileNotFoundError:
            raise NotCachedError(f"{path}: there is no such file") from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error

    @contextlib.contextmanager
    def _stage(self, path: Path, data: bytes) -> Iterator[Path]:
        """A temporary file of `data` in the folder of `path`: durable when it is handed out, removed afterwards."""
        with self._explain_failure(path), temporary_path(path) as temporary:
            # Not "xb": the name is random, and not every file system can create exclusively.
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
            fsync(path.parent)

    @contextlib.contextmanager
    def _explain_failure(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be written: {error.strerror or error}; nothing half-written is left, "
                "run the same command again when this is mended"
            ) from error
