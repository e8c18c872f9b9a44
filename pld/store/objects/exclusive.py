"""Moving a staged file to a name that only one of several writers may take.

A hard link does it. Where there are none, Linux has a rename that replaces nothing, and exFAT, FAT and SMB offer it.
Elsewhere writers agree by claims: files in the object's folder, created with O_EXCL, that name a staged file. All
writers keep five rules:

1. A claim is created empty. Then its writer names a staged file in it: that of the claim before, if it is there still,
   else its own. Where the object exists, it names nothing.
2. Claims are numbered from 1. One counts if it named its file before there was a next one.
3. Whoever meets the claim that counts finishes it: renames the file that it names to the object's name.
4. The next claim is made when the last cannot be finished: neither its file nor the object is there, or it stays empty.
5. Claims are removed only when the object exists, from 1 upwards.

So a kill leaves nothing locked, and a writer who wakes up late has nothing to overwrite with: its file was moved for
it. Time decides how long a writer waits, never who wins. docs/decisions/0008 goes through the races.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
import time
from pathlib import Path

from pld.errors import ConfigError, StoreError

SINGLE_WRITER = "PLD_SINGLE_WRITER"
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

# Also how flags are refused that a file system does not know.
_REFUSED = _NO_LINKS | {errno.EINVAL}
# From creating a claim to having written it are a few calls; a writer that has not come so far by then was killed.
_EMPTY_SECONDS = 30.0
_POLL_SECONDS = 0.01
# From fcntl.h and linux/fs.h, whose numbers are kept.
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


def create(staged: Path, path: Path, data: bytes) -> bool:
    """Link or rename `staged`, a synced file of `data`, to `path` in its folder unless that exists; whether it was.

    Raises:
        StoreError: the file system has nothing that could keep two writers apart.
        ConfigError: it depends on $PLD_SINGLE_WRITER, and that is neither 0 nor 1.
        OSError: anything else that the file system answers.
    """
    try:
        for attempt in (_link, _rename_new):
            if (created := attempt(staged, path)) is not None:
                return created
        return _rename_alone(staged, path) if _single_writer() else _rename_by_claim(staged, path, data)
    except FileNotFoundError:
        # Another writer's sweep took the staged file, after a third one had created the object.
        if path.exists():
            return False
        raise


def _link(staged: Path, path: Path) -> bool | None:
    """A second name, which is the only one in the end; None where the file system has no hard links."""
    try:
        os.link(staged, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            return None
        raise
    return True


def _rename_new(staged: Path, path: Path) -> bool | None:
    """One call that asks and renames; None where there is none, in this system or this file system."""
    if sys.platform != "linux" or (rename := getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)) is None:
        return None
    if rename(_AT_FDCWD, os.fsencode(staged), _AT_FDCWD, os.fsencode(path), _RENAME_NOREPLACE) == 0:
        return True
    if (code := ctypes.get_errno()) == errno.EEXIST:
        return False
    if code in _REFUSED:
        return None
    raise OSError(code, os.strerror(code), str(path))


def _single_writer() -> bool:
    text = os.environ.get(SINGLE_WRITER) or "0"
    if text not in ("0", "1"):
        raise ConfigError(f"{SINGLE_WRITER}: found {text!r}, wanted 1 where only one process writes a store, else 0")
    return text == "1"


def _rename_alone(staged: Path, path: Path) -> bool:
    if path.exists():
        return False
    staged.replace(path)
    return True


def _rename_by_claim(staged: Path, path: Path, data: bytes) -> bool:
    number, claimed = 1, False
    while True:
        claimed |= _take(path, number, staged)
        claim = _claim(path, number)
        named = _await_name(claim, path)
        # Read again: where claims are being removed, this one is gone before the next one is.
        if named and not _claim(path, number + 1).exists() and _read_claim(claim, path) == named:
            try:
                named.replace(path)
            except FileNotFoundError:
                # Moved by somebody who met this claim; if not, its writer gave up and took the file along.
                if path.exists():
                    return named == staged
                if named == staged:
                    raise
            else:
                for done in range(1, number + 1):
                    _claim(path, done).unlink(missing_ok=True)
                return named == staged
        elif path.exists():
            # Who met this writer's claim has removed it by now, or another claim was finished: the object tells.
            return claimed and path.read_bytes() == data
        number += 1


def _claim(path: Path, number: int) -> Path:
    """Named as staged files are, so that every version's sweep knows it; no random name has so many zeros."""
    return path.with_name(f".{path.name}.{number:032x}.tmp")


def _take(path: Path, number: int, staged: Path) -> bool:
    """Make the claim of this number, unless there is one or the object exists; whether this call made it."""
    claim = _claim(path, number)
    if (descriptor := _open_new(claim, path)) is None:
        return False
    try:
        # Some file systems take O_EXCL and ignore it.
        if (again := _open_new(claim, path)) is not None:
            os.close(again)
            # Or the claim is gone: by rule 5 the object is there then.
            if not path.exists():
                claim.unlink(missing_ok=True)
                raise _not_exclusive(path)
        text = os.fsencode(_choose_staged(path, number, staged).name)
        # After the look at earlier files: one that was missing there may be the object by now.
        if path.exists():
            claim.unlink(missing_ok=True)
            return False
        if os.write(descriptor, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
    return True


def _choose_staged(path: Path, number: int, staged: Path) -> Path:
    """What rule 1 has a new claim name."""
    for earlier in range(number - 1, 0, -1):
        if named := _read_claim(_claim(path, earlier), path):
            return named if named.exists() else staged
    return staged


def _open_new(claim: Path, path: Path) -> int | None:
    try:
        return os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return None
    except OSError as error:
        if error.errno in _REFUSED:
            raise _not_exclusive(path) from error
        raise


def _await_name(claim: Path, path: Path) -> Path | None:
    """As `_read_claim`, but gives the claim's writer the time to write."""
    given_up = time.monotonic() + _EMPTY_SECONDS
    while (named := _read_claim(claim, path)) is None and claim.exists() and time.monotonic() < given_up:
        time.sleep(_POLL_SECONDS)
    return named


def _read_claim(claim: Path, path: Path) -> Path | None:
    """The staged file that a claim names; None where it names none (yet), or there is no such claim."""
    try:
        text = os.fsdecode(claim.read_bytes())
    except FileNotFoundError:
        return None
    return path.with_name(text) if re.fullmatch(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}\.tmp", text) else None


def _not_exclusive(path: Path) -> StoreError:
    return StoreError(
        f"{path}: found a file system with neither hard links nor exclusive creation (O_EXCL), so two writers could "
        f"replace each other's objects; set {SINGLE_WRITER}=1 when only one process writes this store and run the "
        "same command again, or name a store on another disk"
    )
