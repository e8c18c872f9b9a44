"""Labels of flat images: found beside them or named by --labels, and matched to them by name or by order."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pld.classes.matching import shorten_list
from pld.errors import DataError, NoLabelsError
from pld.images.sources.folders import StatedClasses
from pld.images.sources.forms.devkit import DEVKIT, read_devkit
from pld.images.sources.forms.flat_images import FlatImages, number_classes
from pld.images.sources.forms.label_csv import SOLUTION, LabelledPath, read_label_csv
from pld.images.sources.image_files import is_image_name
from pld.images.sources.source import Source

# Folders above the images in which Kaggle's file is looked for: ILSVRC/Data/CLS-LOC/val lies 4 below it.
_FOLDERS_ABOVE = 4
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})")

# A class number; and any numeral, as test splits (-1) and pandas (1.0) have them.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_NUMERAL = re.compile(r"-?[0-9]+(\.0+)?")

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
        file: a devkit, an archive or a folder, whose labels are those of ILSVRC2012_val_00000001 and so on; or a CSV,
            whose paths are compared with the images', with extensions, then without, then by file name alone. Labels
            that are all whole numbers are class numbers; others are class names.
        stated: the class names, if something states them.

    Raises:
        DataError: the file cannot be read, or lacks images; or the devkit is given for images with other names.
        NoLabelsError: labels are negative, as in test splits.
    """
    if file.is_dir() or file.name.endswith((".gz", ".tgz")):
        kit = read_devkit(file)
        stated = stated or StatedClasses(names=kit.class_names, origin=str(file))
        labels, names = number_classes(_by_number(images, kit.labels, file), stated, str(file))
        notes = [_told(images, file)]
        if (lacking := len(kit.labels) - len(images.paths)) > 0:
            notes.append(
                f"{images.place}: {lacking:,} of the {len(kit.labels):,} images that {file} labels are not there"
            )
        return images.source(labels, names, notes)
    lines, unused = _match(images, file)
    if len(splits := {line.split for line in lines}) > 1:
        raise DataError(
            f"{file}: its column split has {shorten_list(sorted(map(str, splits)))} for the images in {images.place}; "
            f"name {file} itself with --data and one of these with --split, or sort the images into a folder for each"
        )
    notes = [_told(images, file)]
    if unused:
        notes.append(f"{file}: {unused:,} of its lines name images that are not in {images.place}")
    return source_of_labels(images, lines, stated, str(file), notes)


def source_of_labels(
    images: FlatImages, lines: Sequence[LabelledPath], stated: StatedClasses | None, where: str, notes: Sequence[str]
) -> Source:
    """The images with their classes, numbers if `are_numbers`; a line for each image.

    Raises:
        DataError: a number has no name, or some labels are numbers and others words.
        NoLabelsError: labels are negative.
    """
    classes = clean_labels(lines, stated, where)
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
    return all(map(_NUMBER.fullmatch, set(classes))) and not _numerals_are_names(stated)


def clean_labels(lines: Sequence[LabelledPath], stated: StatedClasses | None, where: str) -> list[str]:
    """The labels, whole numbers without the `.0` that pandas writes.

    Raises:
        DataError: some labels are numbers and others words, and no class is named by a numeral.
        NoLabelsError: labels are negative.
    """
    labels = [line.label for line in lines]
    if stated and set(labels) <= set(stated.names):
        return labels
    words = {label for label in set(labels) if not _NUMERAL.fullmatch(label)}
    if not words:
        labels = [label.partition(".")[0] for label in labels]
        if missing := [line.line for line, label in zip(lines, labels, strict=True) if label.startswith("-")]:
            raise NoLabelsError(
                f"{where}: {len(missing):,} of {len(lines):,} images have a negative label, the first in line "
                f"{missing[0]}, as in test splits; remove these lines and images"
            )
        return labels
    numerals = (line for line in lines if line.label not in words)
    number = next((line for line in numerals if _NUMBER.fullmatch(line.label.lstrip("-").partition(".")[0])), None)
    if number and not _numerals_are_names(stated):
        word = next(line for line in lines if line.label in words)
        raise DataError(
            f"{where}: line {number.line} has the label {number.label!r}, a number, and line {word.line} "
            f"{word.label!r}, a word; wanted class numbers or class names. Correct the lines; if numerals are names of "
            "classes, list all classes in a file: --class_names FILE"
        )
    return labels


def _numerals_are_names(stated: StatedClasses | None) -> bool:
    return stated is not None and any(name.isdigit() for name in stated.names)


def _by_number(images: FlatImages, labels: Sequence[str], file: Path) -> list[str]:
    """The devkit's label of each image, by the number in its name."""
    found = []
    for path in images.paths:
        match = _VALIDATION.fullmatch(os.path.basename(path))  # noqa: PTH119
        if not match or not 1 <= int(match[1]) <= len(labels):
            raise DataError(
                f"{file}: labels ILSVRC2012_val_00000001 to ILSVRC2012_val_{len(labels):08d}; {images.place} has an "
                f"image {path!r}. Give ImageNet's validation images their own names, or name another file with --labels"
            )
        found.append(labels[int(match[1]) - 1])
    return found


def _told(images: FlatImages, file: Path) -> str:
    return f"{images.place}: labels are those of {file}"


def _match(images: FlatImages, file: Path) -> tuple[list[LabelledPath], int]:
    """The line of each image, and the number of lines that belong to none."""
    lines = read_label_csv(file)
    by_path, by_name = _group(lines)
    found = []
    for path, extension in zip(images.paths, images.extensions(), strict=True):
        candidates = by_path.get(path) or by_name.get(os.path.basename(path), [])  # noqa: PTH119
        same = [line for line in candidates if extension and line.path.endswith(extension)]
        candidates = same or candidates
        if len(candidates) > 1:
            raise DataError(
                f"{file}: lines {candidates[0].line} and {candidates[1].line} could both be the image {path!r} in "
                f"{images.place}; remove one, or write its folder and extension as they are there"
            )
        found.append(candidates[0] if candidates else None)
    if missing := [path for path, line in zip(images.paths, found, strict=True) if line is None]:
        raise DataError(
            f"{file}: no line for {len(missing):,} of the {len(images.paths):,} images in {images.place}: "
            f"{shorten_list(missing)}; add a line for each, or move these images elsewhere"
        )
    used = [line for line in found if line is not None]
    if (num := len({line.line for line in used})) < len(used):
        raise DataError(
            f"{file}: {len(used) - num:,} images in {images.place} share a line with another, as only "
            "their folders differ; write the folders into the lines' paths"
        )
    return used, len(lines) - len(used)


def _group(lines: Sequence[LabelledPath]) -> tuple[dict[str, list[LabelledPath]], dict[str, list[LabelledPath]]]:
    """The lines by their paths without extensions, and by their file names."""
    by_path: dict[str, list[LabelledPath]] = {}
    by_name: dict[str, list[LabelledPath]] = {}
    for line in lines:
        path = _without_extension(line.path)
        by_path.setdefault(path, []).append(line)
        by_name.setdefault(os.path.basename(path), []).append(line)  # noqa: PTH119
    return by_path, by_name


def _without_extension(path: str) -> str:
    path = os.path.normpath(path.replace("\\", "/"))
    return os.path.splitext(path)[0] if is_image_name(path) else path  # noqa: PTH122
