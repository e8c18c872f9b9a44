"""Stores behind URLs: s3://, gs://, hf://, http(s):// (to read) and whatever else fsspec has a driver for.

Object stores put whole objects or nothing, so there is nothing to stage and nothing is left over. What they do not
promise is an answer: see `RetryingDriver.retry`. docs/decisions/0008 has the reasons.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pld.errors import CorruptStoreError, NotCachedError, StoreError
from pld.remote.driver import RetryingDriver, cat
from pld.remote.retry import http_status
from pld.store.objects.range_cache import RangeCache
from pld.store.objects.storage import Check, checked_name, object_names

T = TypeVar("T")

# Where "create unless it exists" is one request (If-None-Match, if_generation_match), not a question and an answer.
_EXCLUSIVE = frozenset({"s3", "s3a", "gs", "gcs", "memory"})
_PRECONDITION_FAILED = 412


class FsspecStorage:
    """A folder behind a URL; see Storage for the methods. As safe in threads and forked processes as RetryingDriver."""

    def __init__(self, url: str, cache: RangeCache | None = None) -> None:
        """Connect; ranges that can be checked are kept in `cache`."""
        self._driver = RetryingDriver(url, StoreError)
        self._cache = cache
        self.url = self._driver.url

    def read(self, name: str, max_bytes: int) -> bytes:
        """See Storage."""
        data = self._fetch(name, 0, max_bytes + 1)
        if len(data) > max_bytes:
            raise CorruptStoreError(f"{self.url}/{name}: found more bytes, wanted at most {max_bytes}")
        return data

    def read_range(self, name: str, offset: int, num_bytes: int, check: Check | None = None) -> bytes:
        """See Storage. What nobody checks is not kept."""
        if check is None or self._cache is None:
            data = self._fetch_range(name, offset, num_bytes)
            if check:
                check(data)
            return data
        key = f"{name.rpartition('/')[2]} {offset} {num_bytes}"
        return self._cache.read(key, check, lambda: self._fetch_range(name, offset, num_bytes))

    def _fetch_range(self, name: str, offset: int, num_bytes: int) -> bytes:
        path, where = self._path(name), f"{self.url}/{name}"
        with _missing_objects(where, "read"):
            data = self._driver.read_range(path, where, offset, num_bytes)
        if len(data) < num_bytes:
            raise CorruptStoreError(
                f"{where}: found the end after {len(data)} of {num_bytes} bytes from byte {offset}: "
                "the object was cut; copy it again or cache this part again"
            )
        return data

    def put(self, name: str, data: bytes) -> None:
        """See Storage."""
        path = self._path(name)

        def write(driver: Any) -> None:
            driver.pipe_file(path, data)
            _check_size(driver, path, len(data))

        self._retry(write, name, "written")

    def put_file(self, name: str, path: Path) -> None:
        """Create or replace an object by a local file, which need not fit into memory; raises as `put`."""
        target, size = self._path(name), path.stat().st_size

        def write(driver: Any) -> None:
            driver.put_file(str(path), target)
            _check_size(driver, target, size)

        self._retry(write, name, "written")

    def put_exclusive(self, name: str, data: bytes) -> bool:
        """See Storage. Of writers of the same bytes, more than one may get True."""
        path = self._path(name)

        def create(driver: Any) -> None:
            if self._driver.scheme in _EXCLUSIVE:
                _pipe_exclusively(driver, path, data)
            elif not driver.exists(path):
                driver.pipe_file(path, data)

        # "It exists" may be this call's own object, whose first answer was lost; "created" may be no longer true
        # where the driver only asked before. What is there now decides.
        with contextlib.suppress(FileExistsError):
            self._retry(create, name, "written")
        return self._fetch(name, 0, len(data) + 1) == data

    def exists(self, name: str) -> bool:
        """See Storage."""
        path = self._path(name)
        try:
            self._retry(lambda driver: driver.info(path), name, "read")
        except NotCachedError:
            return False
        return True

    def list(self, prefix: str) -> list[str]:
        """See Storage."""
        return object_names(self._find(prefix, detail=False))

    def sizes(self, prefix: str) -> dict[str, int]:
        """See Storage."""
        found = self._find(prefix, detail=True)
        return {name: found[name].get("size") or 0 for name in object_names(found)}

    def _find(self, prefix: str, *, detail: bool) -> dict[str, dict[str, Any]]:
        """What the driver says of each object below a folder, by the object's name; nothing without `detail`."""
        folder = self._path(prefix) if prefix else self._driver.root
        # fsspec lists a web server's folders one by one, and leaves out those that fail by default.
        options = {"on_error": "raise"} if self._driver.is_web else {}
        try:
            found = self._retry(lambda driver: driver.find(folder, detail=detail, **options), prefix, "listed")
        except FileNotFoundError:
            found = []
        if not found:
            self._check_lists()
        about = found if isinstance(found, dict) else {path: {} for path in found}
        return {path.removeprefix(self._driver.root).lstrip("/"): info for path, info in about.items()}

    def modified(self, name: str) -> float | None:
        """When an object was last put, in seconds since 1970 by the object store's clock; None where it does not tell.

        Raises as `read`.
        """

        def ask(driver: Any) -> float | None:
            with contextlib.suppress(NotImplementedError):
                return float(driver.modified(path).timestamp())
            return None

        path = self._path(name)
        return self._retry(ask, name, "read")

    def leftovers(self) -> dict[str, str]:
        """See Storage: none."""
        return {}

    def delete(self, name: str) -> None:
        """See Storage."""
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            self._retry(lambda driver: driver.rm_file(path), name, "deleted")

    def _path(self, name: str) -> str:
        return f"{self._driver.root}/{checked_name(name, self.url)}"

    def _fetch(self, name: str, start: int, end: int) -> bytes:
        path = self._path(name)
        return self._retry(lambda driver: cat(driver, path, start, end), name, "read")

    def _check_lists(self) -> None:
        """An HTTP server without listings would make every store look empty."""
        if self._driver.is_web:
            try:
                self._retry(lambda driver: driver.ls(self._driver.root), "", "listed")
            except FileNotFoundError:
                raise StoreError(
                    f"{self.url}: the server lists no folders, which reading a store needs; turn its directory index "
                    "on, or read the store where it came from (s3://, hf://, a folder)"
                ) from None

    def _retry(self, action: Callable[[Any], T], name: str, done: str) -> T:
        where = f"{self.url}/{name}".rstrip("/")
        with _missing_objects(where, done):
            return self._driver.retry(action, where, done)


def _check_size(driver: Any, path: str, wanted: int) -> None:
    if (size := driver.info(path)["size"]) != wanted:
        raise ConnectionError(f"{size} of {wanted} bytes arrived")


@contextlib.contextmanager
def _missing_objects(where: str, done: str) -> Iterator[None]:
    """Explain what is missing where an object is read or written; FileNotFoundError as it is where it is listed."""
    try:
        yield
    except FileNotFoundError as error:
        if done == "read":
            raise NotCachedError(f"{where}: there is no such object") from None
        if done == "written":
            raise StoreError(f"{where}: cannot be written: {error}; make the bucket or folder first") from error
        raise


def _pipe_exclusively(driver: Any, path: str, data: bytes) -> None:
    """Create an object; raises FileExistsError where there is one."""
    try:
        driver.pipe_file(path, data, mode="create")
    except Exception as error:
        if http_status(error) == _PRECONDITION_FAILED:
            raise FileExistsError(path) from error
        raise
