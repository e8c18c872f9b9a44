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
from pld.files import write_atomically, writing

# How often the folder is made again that writers of other splits remove.
_TRIES = 100

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
    advice = f"remove {path} to begin anew, or name another folder"
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
    """Hold a lock file, made in a folder that is made too; both are removed at the end, the folder if it is empty.

    The system frees the lock when a process dies. Where the filesystem has no locks, there is none.

    Raises:
        OutputError: another process holds it, or the folder cannot be made.
    """
    descriptor = _lock(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty, or another split's writer was first
            path.unlink(missing_ok=True)
            path.parent.rmdir()
        if descriptor is not None:
            os.close(descriptor)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock; None where there are no locks."""
    while (descriptor := _open_lock(path)) is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise OutputError(
                f"{path.parent.parent}: another process is writing its {path.stem} shards; wait until it has finished"
            ) from error
        except OSError:  # Lustre without -o flock, some NFS
            return descriptor
        if _is_same_file(path, descriptor):
            return descriptor
        os.close(descriptor)  # who held it has removed it since: another process can lock a new one
    return None


def _open_lock(path: Path) -> int | None:
    """Open the lock file; None where that is refused, such as for a folder of this name."""
    with writing(path.parent):
        for attempt in range(_TRIES):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except FileExistsError:  # another split's writer removed it while this one looked, or it is a file
                if attempt == _TRIES - 1:
                    raise
                continue
            with contextlib.suppress(FileNotFoundError):  # another split's writer removed the empty folder
                try:
                    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                except (IsADirectoryError, PermissionError):
                    return None
    return None


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
