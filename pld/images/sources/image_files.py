"""A folder's images and what else lies there, by names alone: no file is opened."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from pld.errors import DataError
from pld.images.decode.image import IMAGE_EXTENSIONS

# What operating systems leave in folders and archives: never samples, never classes. macOS writes as ._NAME what its
# archives know of NAME beside its content.
_JUNK_NAMES = frozenset(("__macosx", ".ds_store", "thumbs.db", "desktop.ini"))
_JUNK_PREFIX = "._"

# Under which names files that are no images are counted, where that is not their extension.
JUNK = "junk"
NO_EXTENSION = "no extension"

# Files numbered behind their last dot have as many kinds as there are files.
_SHOWN_KINDS = 8

_IMAGE_SUFFIXES = frozenset(f".{extension}" for extension in IMAGE_EXTENSIONS)

# (device, number) of a folder, which tells it whatever links lead to it.
_Identity = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """What a folder holds.

    Attributes:
        files: the images' paths, sorted as text; they begin as the folder was given.
        left_out: how many other files, by lower-case extension with its dot, NO_EXTENSION or JUNK. A junk folder counts
            as one.
    """

    files: list[str]
    left_out: Mapping[str, int]


def is_junk(name: str) -> bool:
    """Whether a name, or a part of a path with slashes, is one of those that operating systems leave."""
    return any(part.startswith(_JUNK_PREFIX) or part.lower() in _JUNK_NAMES for part in name.split("/"))


def kind_of(name: str) -> str:
    """Under what a file that is no image is counted."""
    if is_junk(name):
        return JUNK
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a million Path objects are slow
    return extension.encode(errors="backslashreplace").decode() or NO_EXTENSION


def format_counts(left_out: Mapping[str, int]) -> str:
    """How many files of which kinds, the commonest first: `12 .txt, 3 .json, 4 junk`."""
    ordered = sorted(left_out.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [f"{num:,} {kind}" for kind, num in ordered[:_SHOWN_KINDS]]
    rest = sum(num for _, num in ordered[_SHOWN_KINDS:])
    return ", ".join([*shown, *([f"{rest:,} others"] if rest else [])])


def list_images(folder: Path) -> ImageFiles:
    """The images in a folder and the folders in it, and how many files beside them.

    Links to folders are followed, as torchvision's ImageFolder does; one that leads back to a folder that it lies in
    is not.

    Raises:
        DataError: a folder cannot be read; an image's path is not UTF-8; what is named like an image is no file.
    """
    files: list[str] = []
    left_out: Counter[str] = Counter()
    waiting = [(str(folder), _folders_above(folder))]
    while waiting:
        path, above = waiting.pop()
        try:
            here = above | {_identity(path)}
            with os.scandir(path) as entries:
                for entry in entries:
                    if _is_so(entry.is_dir):
                        if is_junk(entry.name):
                            left_out[JUNK] += 1
                        elif not entry.is_symlink() or _identity(entry.path) not in here:
                            waiting.append((entry.path, here))
                    elif _is_image(entry):
                        files.append(entry.path)
                    else:
                        left_out[kind_of(entry.name)] += 1
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; the folder cannot be listed") from error
    files.sort()
    return ImageFiles(files=files, left_out=left_out)


def _is_image(entry: os.DirEntry[str]) -> bool:
    """By its name; raises DataError where no image can be read under it."""
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    if suffix not in _IMAGE_SUFFIXES or is_junk(entry.name):
        return False
    if not entry.path.isascii():
        _check_utf8(entry.path)
    if not _is_so(entry.is_file):
        found = "a link to a file that is not there" if entry.is_symlink() else "no file"
        raise DataError(f"{entry.path}: named like an image, and {found}; put the image there, or remove it")
    return True


def _is_so(ask: Callable[[], bool]) -> bool:
    """False where a link leads nowhere, be it in a circle."""
    try:
        return ask()
    except OSError:
        return False


def _check_utf8(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{os.fsencode(path)!r}: its name is not UTF-8, which a sample's key has to be; rename it"
        ) from None


def _identity(path: str) -> _Identity:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _folders_above(folder: Path) -> frozenset[_Identity]:
    """Also those above where the folder really is, if it is a link."""
    above = {*folder.absolute().parents, *folder.resolve().parents}
    return frozenset(_identity(str(parent)) for parent in above)
