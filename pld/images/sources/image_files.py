"""List the image files of a folder, and count its other files, by name only: no file is opened."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from pld.errors import DataError
from pld.images.decode.image import IMAGE_EXTENSIONS

# Files that operating systems leave in folders and archives: never samples, never classes. macOS writes NAME's metadata
# to ._NAME.
_JUNK_NAMES = frozenset(("__macosx", ".ds_store", "thumbs.db", "desktop.ini"))
_JUNK_PREFIX = "._"

# Kinds under which files other than images are counted, if not under their extension.
JUNK = "junk"
NO_EXTENSION = "no extension"

# Files with a number as their extension have as many kinds as there are files.
_SHOWN_KINDS = 8

_IMAGE_SUFFIXES = frozenset(f".{extension}" for extension in IMAGE_EXTENSIONS)

# (device, inode) of a folder, the same through any link.
_Identity = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """The files of a folder.

    Attributes:
        files: the images' paths, sorted as text; they start with the folder's path as it was given.
        left_out: the number of other files, by lower-case extension with its dot, NO_EXTENSION or JUNK. A junk folder
            counts as one.
    """

    files: list[str]
    left_out: Mapping[str, int]


def is_junk(name: str) -> bool:
    """Whether a name, or any part of a path with slashes, is a file or folder that operating systems leave."""
    return any(part.startswith(_JUNK_PREFIX) or part.lower() in _JUNK_NAMES for part in name.split("/"))


def is_image_name(name: str) -> bool:
    """Whether a file is named like an image."""
    return os.path.splitext(name)[1].lower() in _IMAGE_SUFFIXES  # noqa: PTH122


def kind_of(name: str) -> str:
    """The kind under which a file that is not an image is counted."""
    if is_junk(name):
        return JUNK
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a million Path objects are slow
    return extension.encode(errors="backslashreplace").decode() or NO_EXTENSION


def format_counts(left_out: Mapping[str, int]) -> str:
    """Format the number of files of each kind, the most frequent first: `12 .txt, 4 junk, 3 .json`."""
    ordered = sorted(left_out.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [f"{num:,} {kind}" for kind, num in ordered[:_SHOWN_KINDS]]
    rest = sum(num for _, num in ordered[_SHOWN_KINDS:])
    return ", ".join([*shown, *([f"{rest:,} others"] if rest else [])])


def list_images(folder: Path) -> ImageFiles:
    """List the images in a folder and its subfolders, and count the other files.

    Links to folders are followed, as torchvision's ImageFolder does, except those to a folder that contains them.

    Raises:
        DataError: a folder cannot be read; an image's path is not UTF-8; something named like an image is not a file.
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
                    if _is_true(entry.is_dir):
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


def count_images(folder: Path) -> int:
    """Count the images in a folder and its subfolders; raises as `list_images`."""
    return len(list_images(folder).files)


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file is named like an image; raises DataError if it cannot be read as one."""
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    if suffix not in _IMAGE_SUFFIXES or is_junk(entry.name):
        return False
    check_utf8(entry.path)
    if not _is_true(entry.is_file):
        found = "a link to a missing file" if entry.is_symlink() else "not a file"
        raise DataError(f"{entry.path}: named like an image, but {found}; put the image there, or remove it")
    return True


def _is_true(check: Callable[[], bool]) -> bool:
    """The result of a check of a file; False for a dangling or circular link."""
    try:
        return check()
    except OSError:
        return False


def check_utf8(path: str) -> None:
    """Raise DataError for a path that is not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(f"{os.fsencode(path)!r}: its name is not UTF-8, as a sample's key must be; rename it") from None


def _identity(path: str) -> _Identity:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _folders_above(folder: Path) -> frozenset[_Identity]:
    """The folder's parents; if it is a link, also its target's."""
    above = {*folder.absolute().parents, *folder.resolve().parents}
    return frozenset(_identity(str(parent)) for parent in above)
