"""Labels of flat images: found beside them or named by --labels, and matched to them by name or by order."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pld.classes.matching import shorten_list
from pld.errors import DataError
from pld.images.sources.folders import StatedClasses
from pld.images.sources.forms.devkit import DEVKIT, read_devkit
from pld.images.sources.forms.flat_images import FlatImages, number_classes
from pld.images.sources.forms.label_csv import SOLUTION, read_label_csv
from pld.images.sources.image_files import is_image_name
from pld.images.sources.source import Source

# Folders above the images in which Kaggle's file is looked for: ILSVRC/Data/CLS-LOC/val lies 4 below it.
_FOLDERS_ABOVE = 4
_VALIDATION = re.compile(r"ILSVRC2012_val_\d{8}")

LABEL_FILES = (
    f"a CSV of path,label lines, Kaggle's {SOLUTION} or ImageNet's {DEVKIT} (which is found by itself beside "
    "ILSVRC2012_img_val.tar, as is Kaggle's above its folder val)"
)


def find_label_file(images: FlatImages) -> Path | None:
    """The file that ImageNet's validation images come with, if these are they: Kaggle's above them, the kit beside."""
    if not images.paths or not all(_VALIDATION.fullmatch(os.path.basename(path)) for path in images.paths):  # noqa: PTH119
        return None
    above = list(images.place.parents)[:_FOLDERS_ABOVE]
    beside = [above[0], *([images.place] if images.place.is_dir() else [])]
    candidates = [*(folder / SOLUTION for folder in [*beside, *above]), *(folder / DEVKIT for folder in beside)]
    return next((path for path in candidates if path.is_file()), None)


def label_images(images: FlatImages, file: Path, stated: StatedClasses | None) -> Source:
    """Give images the labels of a file.

    Args:
        images: in the order of their paths.
        file: a devkit, an archive or a folder, whose labels follow the order of the images' names; or a CSV, whose
            paths are compared with the images', without extensions, then by file name alone. Labels that are all
            whole numbers are class numbers; others are class names.
        stated: the class names, if something states them.

    Raises:
        DataError: the file cannot be read, lacks images, or has another number of them.
    """
    if file.is_dir() or file.name.endswith((".gz", ".tgz")):
        kit = read_devkit(file)
        if len(kit.labels) != len(images.paths):
            raise DataError(
                f"{file}: labels {len(kit.labels):,} images in the order of their names, but {images.place} has "
                f"{len(images.paths):,}; wanted all of ImageNet's validation images"
            )
        stated = stated or StatedClasses(names=kit.class_names, origin=str(file))
        labels, names = number_classes(kit.labels, stated, str(file))
        return images.source(labels, names, [_told(images, file)])
    classes, unused = _match(images, file)
    notes = [_told(images, file)]
    if unused:
        notes.append(f"{file}: {unused:,} of its lines name images that are not in {images.place}")
    return source_of_labels(images, classes, stated, str(file), notes)


def source_of_labels(
    images: FlatImages, classes: Sequence[str], stated: StatedClasses | None, where: str, notes: Sequence[str]
) -> Source:
    """The images with their classes, numbers if `are_numbers`; raises DataError if a number has no name."""
    if not are_numbers(classes, stated):
        labels, names = number_classes(classes, stated, where)
        return images.source(labels, names, notes)
    numbers = np.array([int(label) for label in classes], dtype=np.int64)
    if stated and int(numbers.max()) >= len(stated.names):
        raise DataError(f"{where}: label {numbers.max()}, but {stated.origin} names {len(stated.names)} classes")
    if stated:
        notes = [*notes, f"{where}: its labels are taken for the numbers of the classes of {stated.origin}"]
    return images.source(numbers, stated.names if stated else None, notes)


def are_numbers(classes: Sequence[str], stated: StatedClasses | None) -> bool:
    """Whether labels are class numbers: whole numbers without leading zeros, where no class is named by one.

    `007` is a name, and so is `7` among class folders 0 to 11, whose numbers follow their order as text.
    """
    numbers = all(re.fullmatch(r"0|[1-9][0-9]{0,8}", label) for label in set(classes))
    return numbers and not (stated and any(name.isdigit() for name in stated.names))


def _told(images: FlatImages, file: Path) -> str:
    return f"{images.place}: labels are those of {file}"


def _match(images: FlatImages, file: Path) -> tuple[list[str], int]:
    """The class of each image, and the number of lines that belong to none."""
    lines = {_without_extension(line.path): line.label for line in read_label_csv(file)}
    names = {os.path.basename(path): path for path in lines}  # noqa: PTH119
    unique = len(names) == len(lines)
    found = [
        path if path in lines else names.get(os.path.basename(path)) if unique else None  # noqa: PTH119
        for path in images.paths
    ]
    if missing := [path for path, line in zip(images.paths, found, strict=True) if line is None]:
        raise DataError(
            f"{file}: no line for {len(missing):,} of the {len(images.paths):,} images in {images.place}: "
            f"{shorten_list(missing)}; add a line for each, or move these images elsewhere"
        )
    used = {line for line in found if line is not None}
    if len(used) < len(images.paths):
        raise DataError(
            f"{file}: {len(images.paths) - len(used):,} images in {images.place} share a line with another, as only "
            "their folders differ; write the folders into the lines' paths"
        )
    return [lines[line] for line in found if line is not None], len(lines) - len(used)


def _without_extension(path: str) -> str:
    path = os.path.normpath(path.replace("\\", "/"))
    return os.path.splitext(path)[0] if is_image_name(path) else path  # noqa: PTH122
