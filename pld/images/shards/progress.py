"""How far writing a split has come: a JSON file beside its unfinished shards, and the lock of the one who writes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from pld.errors import OutputError
from pld.files import write_atomically

_AtLeastZero = Annotated[int, msgspec.Meta(ge=0)]


class Progress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a plan is on the disk.

    Attributes:
        plan: the plan's digest.
        done: the number of samples written, in the plan's order.
        sizes: of each shard, the bytes that these samples take; what follows them is not counted.
    """

    plan: str
    done: _AtLeastZero
    sizes: list[_AtLeastZero]


def read_progress(path: Path, plan: str, num_shards: int) -> Progress:
    """The progress of a plan, none where there is no file.

    Raises:
        OutputError: the file is another plan's, or damaged.
    """
    advice = f"remove {path.parent} to begin anew, or name another folder"
    try:
        progress = msgspec.json.decode(path.read_bytes(), type=Progress)
    except FileNotFoundError:
        return Progress(plan=plan, done=0, sizes=[0] * num_shards)
    except (OSError, msgspec.MsgspecError) as error:
        raise OutputError(f"{path}: cannot be read: {error}; {advice}") from error
    if progress.plan != plan or len(progress.sizes) != num_shards:
        raise OutputError(
            f"{path.parent}: holds unfinished {path.stem} shards of other samples or settings, {progress.done:,} "
            f"samples so far; finish them with the command that began them, or {advice}"
        )
    return progress


def save_progress(path: Path, progress: Progress) -> None:
    """Replace the file; it survives a power cut."""
    with write_atomically(path, unique=False, durable=True) as temporary:
        temporary.write_bytes(json.dumps(msgspec.to_builtins(progress)).encode())


@contextlib.contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold a lock file; raises OutputError where another process holds it. The system frees it when a process dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"{path.parent.parent}: another process is writing its {path.stem} shards; wait until it has finished"
            ) from error
        yield
    finally:
        os.close(descriptor)
