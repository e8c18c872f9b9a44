"""Image shards behind URLs: which there are, whether they are still the same, and how one is fetched."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

from pld.errors import DataError
from pld.remote.driver import RetryingDriver, without_password
from pld.remote.shard_cache import HeldShard, ShardCache, StoppedError

# Enough to hide an object store's latency: eleven thousand questions take seconds, not minutes.
_ASKING_THREADS = 32
_CHUNK_BYTES = 16 * 2**20
# Where drivers say which version of an object is there.
_VERSION_FIELDS = ("ETag", "etag", "generation", "Last-Modified", "LastModified", "last_modified", "mtime", "created")
# A description of a dataset is a list of class names.
_MAX_TEXT_BYTES = 2**26


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemoteShard:
    """One object.

    Attributes:
        url: as messages show it.
        path: as the driver names it.
        num_bytes: its size.
        version: an ETag or whatever else changes with the content, if the place tells.
        md5: of the content, hexadecimal, if the place tells.
        ranges: whether parts of it can be read.
    """

    url: str
    path: str
    num_bytes: int
    version: str
    md5: str
    ranges: bool

    @property
    def file_name(self) -> str:
        """Under which name a copy is kept: another content has another one."""
        identity = f"{self.url} {self.num_bytes} {self.version}"
        return f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.tar"


class ShardsMissingError(DataError):
    """Some of the named shards are not there."""


class RemotePlace:
    """Where shards are, behind one driver, and the disk that keeps copies of them."""

    def __init__(self, url: str, cache: ShardCache | None = None) -> None:
        self.driver = RetryingDriver(url, DataError)
        self.cache = cache or ShardCache.from_environment()
        self._tags_are_md5 = True

    def shards(self, urls: Sequence[str]) -> list[RemoteShard]:
        """What is behind each URL.

        Raises:
            ShardsMissingError: some are not there; names the first.
            DataError: the place cannot be read, or does not tell sizes.
        """
        with ThreadPoolExecutor(_ASKING_THREADS) as pool:
            found = list(pool.map(lambda url: self._look(_path_of(self.driver, url), without_password(url)), urls))
        missing = [without_password(url) for url, shard in zip(urls, found, strict=True) if shard is None]
        if missing:
            raise ShardsMissingError(
                f"{missing[0]}: there is no such object ({len(missing)} of {len(urls)} shards are missing); --data "
                "wants tar shards such as 's3://BUCKET/train-{0000..0009}.tar' (quoted), or the URL of their folder"
            )
        return [shard for shard in found if shard is not None]

    def names(self, folder: str) -> list[str]:
        """The names of the objects in a folder; empty where there is none. Raises DataError."""
        driver = self.driver
        try:
            path = _path_of(driver, folder)
            found = driver.retry(lambda fs: fs.ls(path, detail=False), without_password(folder), "listed")
        except FileNotFoundError:
            return []
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def text(self, url: str) -> str | None:
        """A small text object, None where there is none; raises DataError."""
        shown = without_password(url)
        try:
            return self.driver.read_range(_path_of(self.driver, url), shown, 0, _MAX_TEXT_BYTES).decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise DataError(f"{shown}: not text: {error}") from error

    def read(self, shard: RemoteShard, offset: int, num_bytes: int) -> bytes:
        """Bytes of a shard, from the local copy where there is one; fewer where it ends before. Raises DataError."""
        held = self.cache.read(shard.file_name, offset, num_bytes)
        if held is not None and len(held) == num_bytes:
            return held
        try:
            return self.driver.read_range(shard.path, shard.url, offset, num_bytes)
        except FileNotFoundError:
            raise DataError(f"{shard.url}: it is gone since it was looked at") from None

    def hold(self, shard: RemoteShard, stop: threading.Event) -> HeldShard:
        """A whole shard on the local disk; raises DataError, OutputError or ConfigError, or StoppedError."""
        fetch = functools.partial(self._fetch, shard, stop)
        return self.cache.hold(shard.file_name, shard.num_bytes, fetch, stop)

    def _look(self, path: str, shown: str) -> RemoteShard | None:
        try:
            info = self.driver.retry(lambda fs: fs.info(path), shown, "read")
        except FileNotFoundError:
            return None
        if info.get("type") == "directory" or not isinstance(info.get("size"), int):
            raise DataError(f"{shown}: not a file whose size is known; wanted a tar shard")
        version = next((str(info[field]) for field in _VERSION_FIELDS if info.get(field)), "")
        return RemoteShard(
            url=shown,
            path=path,
            num_bytes=info["size"],
            version=version,
            md5=_md5(info, self.driver.scheme),
            ranges=info.get("partial", True) or not self.driver.is_web,
        )

    def _fetch(self, shard: RemoteShard, stop: threading.Event, file: BinaryIO) -> None:
        """Write a shard into a file, checked against what the place says of it."""
        found = self._copy(shard, file, stop)
        if self._tags_are_md5 and shard.md5 not in ("", found):
            if self._copy(shard, file, stop) != found:
                raise DataError(f"{shard.url}: read twice, it differs from itself and from its MD5 {shard.md5}")
            # What comes twice alike is what is there: encrypted objects have tags that only look like an MD5.
            self._tags_are_md5 = False
        if self._look(shard.path, shard.url) != shard:
            raise DataError(f"{shard.url}: was replaced since it was looked at; start again")

    def _copy(self, shard: RemoteShard, file: BinaryIO, stop: threading.Event) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        file.seek(0)
        step = _CHUNK_BYTES if shard.ranges else shard.num_bytes
        for offset in range(0, shard.num_bytes, step):
            if stop.is_set():
                raise StoppedError
            wanted = min(step, shard.num_bytes - offset)
            data = self.driver.read_range(shard.path, shard.url, offset, wanted)
            if len(data) != wanted:
                raise DataError(f"{shard.url}: ended after {offset + len(data)} of {shard.num_bytes} bytes")
            digest.update(data)
            file.write(data)
        return digest.hexdigest()


def _path_of(driver: RetryingDriver, url: str) -> str:
    return url if driver.is_web else url.partition("://")[2].rstrip("/")


def _md5(info: dict[str, Any], scheme: str) -> str:
    if info.get("md5Hash"):  # Google's, base64
        return base64.b64decode(info["md5Hash"]).hex()
    tag = str(info.get("ETag", "")).strip('"')
    return tag if scheme in ("s3", "s3a") and re.fullmatch(r"[0-9a-f]{32}", tag) else ""
