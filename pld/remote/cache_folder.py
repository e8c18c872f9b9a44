"""Where copies lie that can be made again at any time: indexes, generated datasets, ranges of stores, image shards."""

from __future__ import annotations

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


def status_of(entry: os.DirEntry[str]) -> os.stat_result | None:
    """A file's status; None where another process has removed it since it was listed."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return None
