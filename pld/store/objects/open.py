"""Open the storage that a path or URL names."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

from pld.store.objects.local_storage import LocalStorage
from pld.store.objects.storage import Storage


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
    # Imported here: fsspec and its drivers are needed for remote stores alone.
    from pld.store.objects.fsspec_storage import FsspecStorage
    from pld.store.objects.range_cache import RangeCache

    return FsspecStorage(url, RangeCache.from_environment())
