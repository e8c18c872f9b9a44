"""Write files atomically, and raise OutputError if the system refuses."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
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


@contextlib.contextmanager
def temporary_path(path: Path, *, unique: bool = True) -> Iterator[Path]:
    """A hidden name in the folder of `path`, for a file or a folder that is removed at the end if it is still there.

    Args:
        path: what is being written; its folder is made.
        unique: whether the name is random, so that several writers of `path` do not meet. Otherwise what a killed
            writer left is written over by the next one.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp" if unique else f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def write_atomically(path: Path, *, unique: bool = True, durable: bool = False) -> Iterator[Path]:
    """A path to write a file or a folder to, which is renamed to `path` once it is complete.

    Args:
        path: where it appears, whole or not at all; a file that is there is replaced.
        unique: see `temporary_path`.
        durable: whether the file survives a power cut once the block has ended.
    """
    with temporary_path(path, unique=unique) as temporary:
        yield temporary
        if durable:
            fsync(temporary)
        temporary.replace(path)
        if durable:
            fsync(path.parent)


def fsync(path: Path) -> None:
    """Make a file's content, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
