"""Ranges of remote parts kept on the local disk: bounded, shared by all processes, checked at each use.

A part's name carries its content's hash, so a range of it never changes its meaning, and only bytes that had the
digests of a commit are kept. Ranges fall by their hash into a fixed number of folders, each with its share of the
space: adding one lists a single folder and evicts the least recently used there. No index, no lock, nothing
to repair after a kill.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from pld.errors import CorruptStoreError
from pld.files import write_atomically
from pld.remote.cache_folder import bytes_from_environment, cache_folder, files_in
from pld.store.objects.storage import Check

DEFAULT_CACHE_BYTES = 20 * 10**9
_FOLDERS = 64


class RangeCache:
    """Bytes under keys, in at most `max_bytes` of disk (more only while several processes add something at once).

    A disk that is full or read-only makes the cache useless, not wrong.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._share = max_bytes // _FOLDERS

    @classmethod
    def from_environment(cls) -> RangeCache:
        """In the cache folder, of $PLD_CACHE_BYTES; 0 keeps nothing. Raises ConfigError."""
        return cls(cache_folder() / "ranges", bytes_from_environment("PLD_CACHE_BYTES", DEFAULT_CACHE_BYTES))

    def read(self, key: str, check: Check, fetch: Callable[[], bytes]) -> bytes:
        """The bytes under a key if `check` accepts them, for disks err; else what `fetch` gives, kept for next time."""
        if (held := self.get(key)) is not None:
            with contextlib.suppress(CorruptStoreError):
                check(held)
                return held
        data = fetch()
        check(data)
        self.put(key, data)
        return data

    def get(self, key: str) -> bytes | None:
        """The bytes under a key, or None."""
        path = self._path(key)
        try:
            body = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return body

    def put(self, key: str, body: bytes) -> None:
        """Keep bytes, if there is room for them."""
        if len(body) > self._share:
            return
        path = self._path(key)
        with contextlib.suppress(OSError):
            with write_atomically(path) as temporary:
                temporary.write_bytes(body)
            self._evict(path.parent)

    def _evict(self, folder: Path) -> None:
        """Remove the longest unused files, those that a killed process was writing among them, until the rest fits."""
        files = files_in(folder)
        excess = sum(status.st_size for status, _ in files) - self._share
        for status, path in sorted(files, key=lambda file: file[0].st_mtime_ns):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= status.st_size

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / f"{int(digest[:8], 16) % _FOLDERS:02d}" / digest
