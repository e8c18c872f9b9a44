"""Stores behind URLs: s3://, gs://, hf://, http(s):// (to read) and whatever else fsspec has a driver for.

Object stores put whole objects or nothing, so there is nothing to stage and nothing is left over. What they do not
promise is an answer: see `FsspecStorage._tried`. docs/decisions/0008 has the reasons.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from fsspec.core import url_to_fs

from pld.errors import CorruptStoreError, NotCachedError, StoreError
from pld.store.storage import Check, checked_name, object_names
from pld.store.transient import ATTEMPTS, advice, described, http_status, is_transient, pauses

T = TypeVar("T")

# Where "create unless it exists" is one request (If-None-Match, if_generation_match), not a question and an answer.
_EXCLUSIVE = frozenset({"s3", "s3a", "gs", "gcs", "memory"})
# All retries are those of this file. Enough connections for the reader's threads.
_S3: dict[str, Any] = {"config_kwargs": {"retries": {"max_attempts": 0}, "max_pool_connections": 32}}
_DRIVER_OPTIONS: dict[str, dict[str, Any]] = {"s3": _S3, "s3a": _S3}
_PACKAGES = {"s3": "'pld-distill[s3]'", "s3a": "'pld-distill[s3]'", "gs": "gcsfs", "gcs": "gcsfs"}

_RANGE_NOT_SATISFIABLE = 416
_PRECONDITION_FAILED = 412


class FsspecStorage:
    """A folder behind a URL; see Storage for the methods.

    Safe in threads, and in forked processes: each connects anew and uses nothing of its parent's event loop.
    """

    def __init__(self, url: str) -> None:
        self.url = re.sub(r"//[^/@:]*:[^/@]*@", "//", url).rstrip("/")  # messages must not show a password
        self._target = url
        self._scheme = url.partition("://")[0]
        self._is_web = self._scheme in ("http", "https")
        self._connect()

    def read(self, name: str, max_bytes: int) -> bytes:
        """See Storage."""
        data = self._fetch(name, 0, max_bytes + 1)
        if len(data) > max_bytes:
            raise CorruptStoreError(f"{self.url}/{name}: found more bytes, wanted at most {max_bytes}")
        return data

    def read_range(self, name: str, offset: int, num_bytes: int, check: Check | None = None) -> bytes:
        """See Storage."""
        path = self._path(name)

        def fetch(driver: Any) -> bytes:
            data = _cat(driver, path, offset, offset + num_bytes)
            if len(data) > num_bytes:  # the whole object, from an HTTP server that knows no ranges
                data = data[offset:][:num_bytes]
            if len(data) < num_bytes and offset + num_bytes <= (driver.info(path)["size"] or 0):
                raise ConnectionError(f"found {len(data)} of {num_bytes} bytes")
            return data

        with self._missing_is_not_cached(name):
            data = self._tried(fetch, name, "read")
        if len(data) < num_bytes:
            raise CorruptStoreError(
                f"{self.url}/{name}: found the end after {len(data)} of {num_bytes} bytes from byte {offset}: "
                "the object was cut; copy it again or cache this part again"
            )
        if check:
            check(data)
        return data

    def put(self, name: str, data: bytes) -> None:
        """See Storage."""
        path = self._path(name)

        def write(driver: Any) -> None:
            driver.pipe_file(path, data)
            if (size := driver.info(path)["size"]) != len(data):
                raise ConnectionError(f"{size} of {len(data)} bytes arrived")

        with self._missing_is_no_bucket(name):
            self._tried(write, name, "written")

    def put_exclusive(self, name: str, data: bytes) -> bool:
        """See Storage. Of writers who bring the same bytes, more than one may be told that it created the object."""
        path = self._path(name)

        def create(driver: Any) -> None:
            if self._scheme in _EXCLUSIVE:
                driver.pipe_file(path, data, mode="create")
            elif not driver.exists(path):
                driver.pipe_file(path, data)

        with self._missing_is_no_bucket(name):
            # "It exists" may be this call's own object, whose first answer was lost; "created" may be no longer true
            # where the driver only asked before. What is there now decides.
            with contextlib.suppress(FileExistsError):
                self._tried(create, name, "written")
            return self._fetch(name, 0, len(data) + 1) == data

    def exists(self, name: str) -> bool:
        """See Storage."""
        path = self._path(name)
        try:
            self._tried(lambda driver: driver.info(path), name, "read")
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> list[str]:
        """See Storage."""
        folder = self._path(prefix) if prefix else self._root
        # fsspec lists a web server's folders one by one, and unless told leaves out those that fail.
        options = {"on_error": "raise"} if self._is_web else {}
        try:
            found = self._tried(lambda driver: driver.find(folder, **options), prefix, "listed")
        except FileNotFoundError:
            found = []
        if not found:
            self._check_lists()
        return object_names(path.removeprefix(self._root).lstrip("/") for path in found)

    def leftovers(self) -> dict[str, str]:
        """See Storage: none."""
        return {}

    def delete(self, name: str) -> None:
        """See Storage."""
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            self._tried(lambda driver: driver.rm_file(path), name, "deleted")

    def _path(self, name: str) -> str:
        return f"{self._root}/{checked_name(name, self.url)}"

    def _fetch(self, name: str, start: int, end: int) -> bytes:
        path = self._path(name)
        with self._missing_is_not_cached(name):
            return self._tried(lambda driver: _cat(driver, path, start, end), name, "read")

    def _check_lists(self) -> None:
        """An HTTP server without listings would make every store look empty."""
        if self._is_web:
            try:
                self._tried(lambda driver: driver.ls(self._root), "", "listed")
            except FileNotFoundError:
                raise StoreError(
                    f"{self.url}: the server lists no folders, which reading a store needs; turn its directory index "
                    "on, or read the store where it came from (s3://, hf://, a folder)"
                ) from None

    def _connect(self) -> None:
        options = _DRIVER_OPTIONS.get(self._scheme, {})
        try:
            self._driver, root = url_to_fs(self._target, use_listings_cache=False, **options)
        except ImportError as error:
            package = _PACKAGES.get(self._scheme)
            raise StoreError(f"{self.url}: {error}" + (f": pip install {package}" if package else "")) from error
        except ValueError as error:
            raise StoreError(f"{self.url}: {error}; wanted a folder or a URL such as s3://BUCKET/STORE") from error
        self._root = root.rstrip("/")
        self._process = os.getpid()

    def _tried(self, action: Callable[[Any], T], name: str, done: str) -> T:
        """`action(driver)`, again with growing pauses while that can help; drivers raise whatever they like.

        Raises:
            FileNotFoundError, FileExistsError: as the driver said.
            StoreError: anything else that lasts.
        """
        if self._process != os.getpid():
            self._connect()
        where = f"{self.url}/{name}".rstrip("/")
        for wait in pauses():
            try:
                return action(self._driver)
            except (FileNotFoundError, FileExistsError):
                raise
            except Exception as error:
                if http_status(error) == _PRECONDITION_FAILED and self._scheme in _EXCLUSIVE:
                    raise FileExistsError(where) from error
                if not is_transient(error):
                    raise StoreError(f"{where}: could not be {done}: {advice(error)}") from error
                if wait is None:
                    raise StoreError(
                        f"{where}: could not be {done} in {ATTEMPTS} attempts: {described(error)}; "
                        "run the same command again later, it goes on where it was"
                    ) from error
                time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def _missing_is_not_cached(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise NotCachedError(f"{self.url}/{name}: there is no such object") from None

    @contextlib.contextmanager
    def _missing_is_no_bucket(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.url}/{name}: could not be written: {error}; make the bucket or folder first"
            ) from error


def _cat(driver: Any, path: str, start: int, end: int) -> bytes:
    """The bytes of an object from start to end, fewer where it ends before."""
    try:
        return bytes(driver.cat_file(path, start=start, end=end))
    except Exception as error:
        if http_status(error) == _RANGE_NOT_SATISFIABLE:
            return b""
        raise
