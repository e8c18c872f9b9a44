"""RetryingDriver: an fsspec file system behind a URL (s3://, gs://, hf://, https://) with retries.

Below the rooms, because stores and image shards are read alike. docs/decisions/0008 has the reasons.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from fsspec.core import url_to_fs

from pld.errors import PLDError
from pld.extras import install_hint
from pld.remote.retry import ATTEMPTS, advice, describe, http_status, is_transient, pauses

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

# All retries are those of this file. Enough connections for the readers' threads.
_S3: dict[str, Any] = {"config_kwargs": {"retries": {"max_attempts": 0}, "max_pool_connections": 32}}
_DRIVER_OPTIONS: dict[str, dict[str, Any]] = {"s3": _S3, "s3a": _S3}
_GCS = "pip install gcsfs"
_INSTALL = {"s3": install_hint("s3"), "s3a": install_hint("s3"), "gs": _GCS, "gcs": _GCS}

_RANGE_NOT_SATISFIABLE = 416


def without_password(url: str) -> str:
    """The URL as messages may show it."""
    return re.sub(r"//[^/@:]*:[^/@]*@", "//", url).rstrip("/")


class RetryingDriver:
    """A driver for the place behind a URL.

    Safe in threads, and in forked processes: each connects anew and uses nothing of its parent's event loop.

    Attributes:
        url: as messages show it.
        scheme: such as s3.
        is_web: whether it is http or https.
        root: the URL as the driver's paths begin.
    """

    def __init__(self, url: str, error: type[PLDError]) -> None:
        """Connect; `error` is what is raised here and later, where something lasts."""
        self.url = without_password(url)
        self.scheme = url.partition("://")[0]
        self.is_web = self.scheme in ("http", "https")
        self._target = url
        self._error = error
        self._connect()

    def retry(self, action: Callable[[Any], T], where: str, done: str) -> T:
        """`action(driver)`, again with growing pauses while that can help; drivers raise whatever they like.

        Args:
            action: what to do; it may be done more than once.
            where: the URL, for messages.
            done: what could not be done, such as "read".

        Raises:
            FileNotFoundError, FileExistsError: as the driver said.
            PLDError: of the kind that was asked for: anything else that lasts.
        """
        if self._process != os.getpid():
            self._connect()
        for wait in pauses():
            try:
                return action(self._driver)
            except (FileNotFoundError, FileExistsError):
                raise
            except Exception as error:
                if not is_transient(error):
                    raise self._error(f"{where}: could not be {done}: {advice(error)}") from error
                if wait is None:
                    raise self._error(
                        f"{where}: could not be {done} in {ATTEMPTS} attempts: {describe(error)}; "
                        "run the same command again later, it goes on where it was"
                    ) from error
                _LOG.debug("%s: not %s, asked again in %.1f s: %s", where, done, wait, describe(error))
                time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def read_range(self, path: str, where: str, offset: int, num_bytes: int) -> bytes:
        """Bytes of an object, fewer where it ends before; raises as `retry`."""

        def fetch(driver: Any) -> bytes:
            data = cat(driver, path, offset, offset + num_bytes)
            if len(data) > num_bytes:  # the whole object, from an HTTP server that knows no ranges
                data = data[offset:][:num_bytes]
            if len(data) < num_bytes and offset + num_bytes <= (driver.info(path)["size"] or 0):
                raise ConnectionError(f"found {len(data)} of {num_bytes} bytes")
            return data

        return self.retry(fetch, where, "read")

    def _connect(self) -> None:
        options = _DRIVER_OPTIONS.get(self.scheme, {})
        try:
            self._driver, root = url_to_fs(self._target, use_listings_cache=False, **options)
        except ImportError as error:
            install = _INSTALL.get(self.scheme)
            raise self._error(f"{self.url}: {error}" + (f": {install}" if install else "")) from error
        except OSError as error:  # of drivers that connect at once
            raise self._error(f"{self.url}: cannot be reached: {error}") from error
        except ValueError as error:
            raise self._error(f"{self.url}: {error}; wanted a folder or a URL such as s3://BUCKET/FOLDER") from error
        self.root = root.rstrip("/")
        self._process = os.getpid()


def cat(driver: Any, path: str, start: int, end: int) -> bytes:
    """The bytes of an object from start to end, fewer where it ends before."""
    try:
        return bytes(driver.cat_file(path, start=start, end=end))
    except Exception as error:
        if http_status(error) == _RANGE_NOT_SATISFIABLE:
            return b""
        raise
