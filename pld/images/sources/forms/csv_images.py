"""A CSV file as a dataset: `path,label` lines, paths relative to its folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from pld.classes.matching import shorten_list
from pld.errors import DataError
from pld.images.sources.folders import StatedClasses
from pld.images.sources.forms.flat_images import whole_files
from pld.images.sources.forms.image_labels import source_of_labels
from pld.images.sources.forms.label_csv import SOLUTION, LabelledPath, read_label_csv
from pld.images.sources.image_files import check_utf8, is_image_name
from pld.images.sources.source import Source
from pld.images.sources.splits import choose_split


def csv_source(
    location: str, path: Path, split: str, stated: StatedClasses | None, *, unlabelled: bool = False
) -> Source:
    """A Source over the images that a CSV file names, in the order of its lines; those of the split, if it has splits.

    With `unlabelled` the labels are not used.

    A key is the image's path without extension, from the folder that holds all of the images: the CSV file's, or one
    above it.

    Raises:
        DataError: the file cannot be read; see `read_label_csv`. Or an image is not there or not named like one, or
            there is no such split.
    """
    if path.name == SOLUTION:
        raise DataError(f"{path}: labels without images; name the folder of the images, and this file with --labels")
    lines = _of_split(read_label_csv(path), split, path)
    folder = path.parent
    files = [os.path.normpath(os.path.join(folder, line.path)) for line in lines]  # noqa: PTH118
    for file, line in zip(files, lines, strict=True):
        if not is_image_name(file):
            raise DataError(
                f"{path}: line {line.line}: {line.path!r} is not named like an image; wanted a path, a comma, a label "
                "(and path,label in the first line, if it is a header)"
            )
        check_utf8(file)
    if missing := _missing(files):
        raise DataError(
            f"{path}: {len(missing):,} of its {len(files):,} images are not there: {shorten_list(missing)}; paths are "
            f"relative to {folder}. Correct them, or copy the images there"
        )
    shared = os.path.commonpath([folder, *(os.path.dirname(file) for file in files)])  # noqa: PTH120
    images = whole_files(location, Path(shared), files, Counter())
    if unlabelled:
        return images.source(None, None, [f"{location}: the labels of its images are not used"])
    return source_of_labels(images, lines, stated, str(path), ())


def _of_split(lines: list[LabelledPath], split: str, path: Path) -> list[LabelledPath]:
    """The lines of the split; all of them if the file has no column split."""
    splits = sorted({line.split for line in lines if line.split is not None})
    if not splits:
        return lines
    chosen = choose_split(split, splits, str(path))
    if chosen is None:
        raise DataError(
            f"{path}: no split {split!r} in its column split; found {shorten_list(splits)}. Name one with --split "
            "(--val_split for validation)"
        )
    return [line for line in lines if line.split == chosen]


def _missing(files: list[str]) -> list[str]:
    """The files that are not there; each folder is listed once."""
    held: dict[str, set[str]] = {}
    missing = []
    for file in files:
        folder, name = os.path.split(file)
        if folder not in held:
            try:
                held[folder] = set(os.listdir(folder))  # noqa: PTH208
            except OSError:
                held[folder] = set()
        if name not in held[folder]:
            missing.append(file)
    return missing
