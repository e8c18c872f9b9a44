"""Writing what a command leaves: a full disk or a read-only folder is an error that the user can mend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from pld.errors import OutputError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise OutputError, naming `path`, where the system refuses to write."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path}: cannot be written: {reason}; make room, or name another place") from error


def write_text(path: Path, text: str) -> None:
    """Write a file, and the folders above it where they are missing; raises OutputError."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
