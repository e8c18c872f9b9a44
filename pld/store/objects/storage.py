"""Where a store's objects lie. The rest of the room knows objects by relative name and never touches files.

Folders are here, URLs in remote.py.

Two promises carry the store's crash safety: an object under its final name is whole, and `put_exclusive` lets
exactly one of several writers create it.
"""

from __future__ import annotations

import contextlib
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from pld.errors import CorruptStoreError, NotCachedError, StoreError
from pld.files import fsync, temporary_path
from pld.store.objects.exclusive import NO_LINKS, create

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_TEMPORARY = re.compile(r"\.(?P<target>.+)\.[0-9a-f]{32}\.tmp")

Check = Callable[[bytes], None]


@runtime_checkable
class Storage(Protocol):
    """Whole objects under relative names such as `commits/v000-009/train-0012.json`."""

    url: str

    def read(self, name: str, max_bytes: int) -> bytes:
        """A whole object; NotCachedError where there is none, CorruptStoreError where it is larger than max_bytes."""

    def read_range(self, name: str, offset: int, num_bytes: int, check: Check | None = None) -> bytes:
        """Exactly num_bytes of an object; NotCachedError without it, CorruptStoreError where it ends before.

        `check` sees the bytes before anything is done with them, and raises CorruptStoreError.
        """

    def put(self, name: str, data: bytes) -> None:
        """Create an object whose name says its content: a second writer writes the same bytes."""

    def put_exclusive(self, name: str, data: bytes) -> bool:
        """Create an object unless it exists; whether this call created it."""

    def exists(self, name: str) -> bool:
        """Whether the object exists."""

    def list(self, prefix: str) -> list[str]:
        """Sorted names of all objects in the folder `prefix` and below; "" for all."""

    def leftovers(self) -> dict[str, str]:
        """Unfinished objects that killed (or still running) writers left: where each lies -> the name it was for."""

    def delete(self, name: str) -> None:
        """Remove an object or a leftover; fine where there is none."""


def open_storage(url: str | os.PathLike[str]) -> Storage:
    """The storage behind a URL: a local folder, with or without file://, or whatever fsspec has a driver for.

    What is read from a remote store's parts is kept in the cache folder, see range_cache.py.

    Raises:
        StoreError: the URL is of a kind that nothing here can read.
        ConfigError: $PLD_CACHE_BYTES is not a number.
    """
    url = os.fspath(url)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        return LocalStorage(Path(urllib.parse.unquote(rest)) if separator else Path(url).expanduser())
    # Only here: fsspec and its drivers are not loaded for local stores.
    from pld.store.objects.fsspec_storage import FsspecStorage
    from pld.store.objects.range_cache import RangeCache

    return FsspecStorage(url, RangeCache.from_environment())


def checked_name(name: str, where: str) -> str:
    """The name, if it is one that an object can have; else raises CorruptStoreError."""
    if not _NAME.fullmatch(name):
        raise CorruptStoreError(f"{where}: found the object name {name!r}, which could lead out of the store")
    return name


def object_names(found: Iterable[str]) -> list[str]:
    """Those of the names that objects can have, sorted; the folder may hold other files."""
    return sorted(name for name in found if _NAME.fullmatch(name))


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
            data = os.pread(file.fileno(), num_bytes, offset)
            # One pread stops at 2 GiB and may be cut short by a signal on some file systems.
            while len(data) < num_bytes and (
                more := os.pread(file.fileno(), num_bytes - len(data), offset + len(data))
            ):
                data += more
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
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except FileNotFoundError:
                # Another writer's sweep, after a third one had created the object.
                if path.exists():
                    return False
                raise
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                return create(temporary, path, data)
        return True

    def exists(self, name: str) -> bool:
        """See Storage."""
        return self._path(name).is_file()

    def list(self, prefix: str) -> list[str]:
        """See Storage."""
        return object_names(self._walk(prefix))

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
