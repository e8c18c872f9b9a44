"""Image folders: in ImageFolder's layout, one folder per class, named after it; in any, for images without labels."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pld.classes.matching import shorten_list
from pld.errors import DataError, NoLabelsError
from pld.images.decode.image import IMAGE_EXTENSIONS
from pld.images.sources.forms.recognise import recognise_folder
from pld.images.sources.image_files import ImageFiles, check_utf8, is_junk, list_images
from pld.images.sources.keys import sample_keys
from pld.images.sources.source import WHOLE_FILE, ImageShard, Source
from pld.images.sources.splits import split_of

# Files in one shard of a folder: large enough for a small overhead, small enough to lose in a crash.
SHARD_SAMPLES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatedClasses:
    """A dataset's class names, in the order of the class numbers, and where they come from."""

    names: tuple[str, ...]
    origin: str


def folder_source(location: str, folder: Path, stated: StatedClasses | None = None) -> Source:
    """A Source over `folder/CLASS/**/IMAGE`: a label is the index of the class folder's name among the class names.

    Files are sorted by relative path and cut into shards of SHARD_SAMPLES. Links to folders are followed, as
    torchvision's ImageFolder does.

    Args:
        location: the user's name for the dataset, for messages.
        folder: holds the class folders.
        stated: the class names; None for the class folders' names, sorted as text.

    Raises:
        DataError: there are no class folders, or none with images; one is not a stated class; they look like splits or
            like folders of class folders; or two samples have one key.
    """
    present = class_folders(folder)
    if not present:
        raise _without_classes(folder)
    names = stated.names if stated else tuple(present)
    known, there = set(names), set(present)
    unknown = [name for name in present if name not in known]
    if stated and unknown == present and len(present) == 1:
        raise DataError(_not_a_class(folder, present[0], stated))
    if stated and unknown:
        raise DataError(
            f"{folder / unknown[0]}: a class folder that {stated.origin} does not list ({len(unknown)} such: "
            f"{shorten_list(unknown)}); it has {len(names)}: {shorten_list(names)}. Rename or move it, or list all "
            "classes in a file: --class_names FILE"
        )
    found = {name: list_images(folder / name) for name in names if name in there}
    notes = [] if stated else _check_layout(folder, found)
    if lacking := [name for name in names if name not in found or not found[name].files]:
        notes.append(f"{folder}: no images of {len(lacking)} of {len(names)} classes: {shorten_list(lacking)}")
    if loose := count_loose_images(folder):
        notes.append(f"{folder}: {loose} images next to the class folders have no class and are left out")
    pairs = sorted((file, label) for label, name in enumerate(names) if name in found for file in found[name].files)
    if not pairs:
        inside = recognise_folder(folder / present[0])
        advice = f"{present[0]} is {inside}" if inside else "fill them, or name another folder"
        raise DataError(f"{folder}: class folders without any image; {advice}")
    return dataclasses.replace(
        _source(location, folder, [file for file, _ in pairs]),
        labels=np.array([label for _, label in pairs], dtype=np.int64),
        class_names=tuple(names),
        left_out=sum((Counter(each.left_out) for each in found.values()), Counter()),
        notes=tuple(notes),
    )


def _not_a_class(folder: Path, name: str, stated: StatedClasses) -> str:
    """The error for a folder of all images, such as Tiny ImageNet's val/images, in the place of class folders."""
    annotations = folder / "val_annotations.txt"
    file = annotations if annotations.is_file() else "FILE"
    return (
        f"{folder / name}: the only folder in {folder}, and no class that {stated.origin} lists; it has "
        f"{len(stated.names)}: {shorten_list(stated.names)}. If a file has the classes of its images, write shards "
        f"with labels, pld data '{folder / name}' --labels {file} --shards OUT --split "
        f"{split_of(folder.name) or 'SPLIT'}; else rename the folder after its class"
    )


def unlabelled_folder_source(location: str, folder: Path) -> Source:
    """A Source over every image below a folder, without labels; keys and shards are as in `folder_source`.

    Raises:
        DataError: there are no images, or two of them have one key.
    """
    found = list_images(folder)
    if not found.files:
        raise DataError(f"{folder}: no images in it or below, and no tar shards; name a folder of images")
    start = len(os.path.join(folder, ""))  # noqa: PTH118
    folders = {path[start:].partition("/")[0] for path in found.files if "/" in path[start:]}
    note = f"{folder}: images without labels; its folders, {shorten_list(sorted(folders))}, are not taken for classes"
    return dataclasses.replace(
        _source(location, folder, found.files), left_out=found.left_out, notes=(note,) if folders else ()
    )


def _source(location: str, folder: Path, files: Sequence[str]) -> Source:
    """A Source over a folder's sorted files, without labels yet."""
    start = len(os.path.join(folder, ""))  # noqa: PTH118
    relative = [os.path.splitext(path[start:])[0].encode() for path in files]  # noqa: PTH122
    num = len(files)
    return Source(
        location=location,
        shards=tuple(
            ImageShard(f"{folder.name}-{first // SHARD_SAMPLES:06d}", min(SHARD_SAMPLES, num - first))
            for first in range(0, num, SHARD_SAMPLES)
        ),
        keys=sample_keys(relative, files),
        labels=None,
        files=tuple(files),
        file_index=np.arange(num),
        offsets=np.zeros(num, dtype=np.int64),
        sizes=np.full(num, WHOLE_FILE, dtype=np.int64),
        # Sorted, often by class: a smaller window would train on some classes first.
        shuffle_window=-(-num // SHARD_SAMPLES),
    )


def class_folders(folder: Path) -> list[str]:
    """The names of the folders that can be classes, sorted as text.

    Raises:
        DataError: a name is not UTF-8, or a link is dangling.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == "." or is_junk(entry.name):
                continue
            if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                raise DataError(f"{entry.path}: a dangling link; fix or remove it")
            if entry.is_dir():
                check_utf8(entry.path)
                names.append(entry.name)
    return sorted(names)


def _check_layout(folder: Path, found: Mapping[str, ImageFiles]) -> list[str]:
    """Notes on class folders whose names are not stated; raises DataError if they are probably not classes."""
    filled = {name: each.files for name, each in found.items() if each.files}
    if filled and all(split_of(name) for name in filled):
        raise NoLabelsError(
            f"{folder}: {shorten_list(sorted(filled))} hold images but no class folders: splits without classes. Sort "
            "the images of each into one folder per class, or pack them into tars with a .cls for each image"
        )
    nested = [name for name, files in filled.items() if not any(_lies_in(folder / name, file) for file in files)]
    if filled and len(nested) == len(filled):
        raise DataError(_too_deep(folder, filled))
    notes = []
    if len(found) == 1:
        (name,) = found
        notes.append(f"{folder}: one class folder, {name!r}: are all of its images of one class?")
    if nested:
        notes.append(
            f"{folder}: {len(nested)} class folders hold images in folders of their own: {shorten_list(nested)}"
        )
    return notes


def _lies_in(folder: Path, file: str) -> bool:
    return os.path.dirname(file) == str(folder)  # noqa: PTH120 - a million Path objects are slow


def _too_deep(folder: Path, filled: Mapping[str, list[str]]) -> str:
    """The error for folders that hold images only in subfolders; suggests the folder that the user probably means."""
    first = Path(min(min(files) for files in filled.values()))
    holder = first.parent.parent
    likely = holder.parent if split_of(holder.name) and holder != folder else holder
    names = shorten_list(sorted(filled))
    return (
        f"{folder}: none of its {len(filled)} folders, {names}, holds an image itself; the first image lies in "
        f"{first.parent}. If {first.parent.name!r} is a class, name {likely}; if {names} are the classes, list them in "
        "a file: --class_names FILE"
    )


def _without_classes(folder: Path) -> DataError:
    if loose := count_loose_images(folder):
        return NoLabelsError(
            f"{folder}: {loose} images and no class folders, so they have no labels; wanted CLASS/IMAGE.jpg in it. "
            "Sort them into a folder for each class, or pack them into tars with a .cls for each image"
        )
    if found := recognise_folder(folder):
        return DataError(f"{folder}: {found}")
    return DataError(f"{folder}: no class folders and no tar shards; wanted CLASS/IMAGE.jpg or SHARD.tar in it")


def count_loose_images(folder: Path) -> int:
    """Count the images that lie in the folder itself."""
    with os.scandir(folder) as entries:
        return sum(
            e.name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS and not is_junk(e.name) and os.path.isfile(e.path)  # noqa: PTH113 - a loop of links is no error here
            for e in entries
        )
