"""The cache folder, for files that can be recreated: indexes, generated datasets, ranges of stores, image shards."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pld.errors import ConfigError


def cache_folder() -> Path:
    """$PLD_CACHE, else ~/.cache/pld."""
    return Path(os.environ.get("PLD_CACHE") or Path.home() / ".cache" / "pld")


def bytes_from_environment(name: str, default: int) -> int:
    """A number of bytes from an environment variable; raises ConfigError where it is none."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise ConfigError(f"{name}: found {text!r}, wanted a number of bytes such as {default}")
    return int(text)


def files_in(folder: Path) -> list[tuple[os.stat_result, Path]]:
    """The files of a folder and their status, but for those that another process removes meanwhile."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append((path.stat(), path))
    return found
