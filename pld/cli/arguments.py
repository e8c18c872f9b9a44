"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path


def local_path(text: str) -> Path:
    """A path of this machine; a URL would become a folder of that name."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"found the URL {text}, wanted a path on this machine")
    return Path(text).expanduser()


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}, wanted a whole number from 1 on")
    return int(text)
