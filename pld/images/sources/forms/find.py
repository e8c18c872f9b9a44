"""Find the form of what the user names, other than class folders and WebDataset tars."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pld.errors import ConfigError, DataError, NoLabelsError
from pld.extras import needs_extra
from pld.images.sources.description import GivenClasses, describe_unlabelled, read_description
from pld.images.sources.folders import StatedClasses, class_folders, count_loose_images
from pld.images.sources.forms.archives import archive_index, flat_tar_images, is_tar_of_tars
from pld.images.sources.forms.class_tars import class_tar_files, class_tar_files_source, class_tars_source
from pld.images.sources.forms.csv_images import csv_source
from pld.images.sources.forms.flat_images import FlatImages, flat_folder_images, number_classes
from pld.images.sources.forms.image_labels import LABEL_FILES, find_label_file, label_images
from pld.images.sources.forms.parquet_files import refuse_parquet
from pld.images.sources.source import Source
from pld.images.sources.splits import choose_split, split_of

# Kaggle's copy of ImageNet, from the folder that it unpacks to; users name any folder on the way.
_KAGGLE = ("ILSVRC", "Data", "CLS-LOC")


def open_file_form(location: str, path: Path, split: str, given: GivenClasses, labels: Path | None) -> Source | None:
    """Open a file that is not a WebDataset tar; None if it is one, or nothing known.

    Raises:
        DataError: it cannot be used; see the forms.
    """
    if path.suffix.lower() == ".csv":
        _refuse_labels(path, labels, "a CSV of paths and labels has its own")
        source = csv_source(location, path, split, _stated(path.parent, given), unlabelled=given.unlabelled)
        return _described(source, path.parent, given)
    index = archive_index(path)
    if index is None:
        return None
    if is_tar_of_tars(index):
        _refuse_labels(path, labels, "a tar for each class has its own")
        source, stated = class_tars_source(location, path, index), _stated(path.parent, given)
        return _described(_renumber(source, stated) if stated else source, path.parent, given)
    if given.unlabelled:
        return None
    source = _label(flat_tar_images(location, path, index), labels, _stated(path.parent, given))
    return _described(source, path.parent, given)


def open_folder_form(
    location: str, folder: Path, split: str, given: GivenClasses, labels: Path | None, train: Path | None
) -> Source | None:
    """Open a folder that is neither in ImageFolder's layout nor one of tars; None if it is, or nothing known.

    Args:
        location: the user's name for it.
        folder: the folder itself.
        split: which part, of a folder that has several.
        given: the caller's class names.
        labels: the caller's label file.
        train: the training split beside the folder, whose class folders name the classes of flat images.
    """
    refuse_parquet(kaggle_folder(folder), split)
    saved = _saved_folder(folder, split)
    if saved:
        with needs_extra("parquet", f"{saved}: reading Arrow files"):
            from pld.images.sources.forms.arrow import arrow_source
        _refuse_labels(saved, labels, "a saved dataset has its own")
        description = read_description(saved)
        override = given.override or (description.classes if description else None)
        source = arrow_source(location, saved, GivenClasses(override, given.default, given.unlabelled))
        return _described(source, saved, given)
    folder = kaggle_folder(folder)
    parts = class_folders(folder)
    part = choose_split(split, parts, str(folder)) if all(map(split_of, parts)) else None  # a class may be named train
    holder = folder / part if part else folder
    if tars := class_tar_files(holder):
        _refuse_labels(holder, labels, "a tar for each class has its own")
        source, stated = class_tar_files_source(location, tars), _stated(holder, given)
        return _described(_renumber(source, stated) if stated else source, holder, given)
    if given.unlabelled:
        return None
    if part and _is_flat(folder / part):
        trains = [name for name in parts if split_of(name) == "train" and class_folders(folder / name)]
        train = folder / trains[0] if len(trains) == 1 else None
        folder = folder / part
    elif not _is_flat(folder):
        return None
    stated = _stated(folder, given)
    if stated is None and train:
        stated = StatedClasses(names=tuple(class_folders(train)), origin=f"the training split, {train},")
    return _described(_label(flat_folder_images(location, folder), labels, stated), folder, given)


def refuse_labels(location: str, labels: Path | None) -> None:
    """Raise ConfigError where a label file is given to data that has labels."""
    _refuse_labels(Path(location), labels, "class folders and tars with a .cls for each image have their own")


def _refuse_labels(path: Path, labels: Path | None, why: str) -> None:
    if labels:
        raise ConfigError(f"--labels {labels}: {path} needs none: {why}; leave --labels out")


def _stated(folder: Path, given: GivenClasses) -> StatedClasses | None:
    return None if given.unlabelled else given.choose(read_description(folder))


def _described(source: Source, folder: Path, given: GivenClasses) -> Source:
    """The source with the view policy of dataset.json, and its note; without labels where they are not wanted."""
    description = read_description(folder)
    if given.unlabelled:
        note = None if source.labels is None else f"{source.location}: the labels of its images are not used"
        return describe_unlabelled(dataclasses.replace(source, labels=None), description, given).with_notes(note)
    if description is None:
        return source
    return dataclasses.replace(source, policy=description.policy or source.policy).with_notes(description.note)


def _label(images: FlatImages, labels: Path | None, stated: StatedClasses | None) -> Source:
    file = labels or find_label_file(images)
    if file is None and images.place.is_file() and all("/" in path for path in images.paths):
        raise DataError(
            f"{images.place}: a tar of folders of images; unpack it, tar xf '{images.place}', and name the folder that "
            "holds a folder for each class"
        )
    if file is None:
        raise NoLabelsError(
            f"{images.place}: {len(images.paths):,} images without labels: no class folders and no .cls beside them. "
            f"Write shards with labels, pld data '{images.place}' --labels FILE --shards OUT [--split val], and name "
            f"OUT; FILE is {LABEL_FILES}. Or sort the images into a folder for each class, or "
            "pack them into tars with a .cls for each image"
        )
    return label_images(images, file, stated)


def _renumber(source: Source, stated: StatedClasses) -> Source:
    """The source with its classes numbered as stated; raises DataError if one is not listed."""
    numbers, names = number_classes(source.class_names or (), stated, source.location)
    return source.map_labels(numbers, names)


def _is_flat(folder: Path) -> bool:
    return (
        folder.is_dir()
        and not any(folder.glob("*.tar"))
        and not class_folders(folder)
        and count_loose_images(folder) > 0
    )


def kaggle_folder(folder: Path) -> Path:
    """The folder CLS-LOC below a folder of Kaggle's copy of ImageNet; the folder itself for any other."""
    for num in range(len(_KAGGLE) + 1):
        below = folder.joinpath(*_KAGGLE[num:])
        if below.name == _KAGGLE[-1] and below.is_dir():
            return below
    return folder


def _saved_folder(folder: Path, split: str) -> Path | None:
    """The folder of a saved dataset, of one split of several."""
    if (folder / "dataset_dict.json").is_file():
        with needs_extra("parquet", f"{folder}: reading Arrow files"):
            from pld.images.sources.forms.arrow import saved_splits
        splits = saved_splits(folder)
        chosen = choose_split(split, splits, str(folder))
        if chosen is None:
            raise DataError(f"{folder}: no split {split!r}; found {', '.join(sorted(splits))}. Name one with --split")
        return folder / chosen
    return folder if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file() else None
