"""`open_source`: from what the user names to a Source."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pld.classes.matching import shorten_list
from pld.errors import ConfigError, DataError
from pld.images.own_source import open_registered, registered_sources
from pld.images.sources.description import (
    GivenClasses,
    common_description,
    describe_tars,
    describe_unlabelled,
    read_description,
)
from pld.images.sources.folders import (
    StatedClasses,
    class_folders,
    count_loose_images,
    folder_source,
    unlabelled_folder_source,
)
from pld.images.sources.forms.find import (
    kaggle_folder,
    open_file_form,
    open_folder_form,
    refuse_labels,
)
from pld.images.sources.forms.parquet_files import refuse_parquet
from pld.images.sources.glyphs import glyphs_folder
from pld.images.sources.image_files import count_images, is_junk
from pld.images.sources.remote import expand_braces, open_remote
from pld.images.sources.source import Source, forget_open_files
from pld.images.sources.splits import choose_split, names_split, shard_group, split_of
from pld.images.sources.tars import tar_source
from pld.plugins import failed_plugins

# Not ImageNet's devkit and boxes, which lie beside its archives and hold no images.
_COMPRESSED_TAR = re.compile(r"(?!ILSVRC2012_(?:devkit|bbox))(.+)(?:\.tar\.(?:gz|bz2|xz|zst|lz4)|\.tgz)")


def open_source(
    location: str,
    split: str = "train",
    *,
    class_names: Sequence[str] | None = None,
    default_class_names: Sequence[str] | None = None,
    labels: str | None = None,
    unlabelled: bool = False,
) -> Source:
    """Open a dataset.

    Class names fix the numbers of the classes: `class_names` if given, else those of dataset.json, else
    `default_class_names`, else the class folders of the training split. Tars without names have numbers only.

    Args:
        location: `glyphs`; a path or brace pattern of tar shards (quoted: shells expand braces); a folder of
            shards `SPLIT-*.tar`; a folder in ImageFolder's layout, either of one split or with one folder per split.
            Tar shards, and folders of them, may be behind a URL such as s3://BUCKET/train-{0000..0009}.tar.
            Also ImageNet's own archives, Kaggle's copy, a CSV of paths and labels, a folder of `save_to_disk`:
            docs/imagenet.md. `NAME:PLACE` is what `register_source` has under this name.
        split: which part of a folder, by its name or a synonym (val, valid, validation, seg_val); ignored for a pattern
            that names its files.
        class_names: in the order of the class numbers.
        default_class_names: the same, for data without class names.
        labels: a file with the labels of flat images; see `label_images`.
        unlabelled: take every image of the split, below a folder or in tars, and no labels, even where there are some.
            Only `class_names` then names classes.

    Raises:
        DataError: nothing is there, or what is there cannot be used; see `tar_source` and `folder_source`.
        OutputError, ConfigError: see `remote_tar_source`.
        PluginError: the reader of a plug-in fails, or breaks the contract of a Source.
    """
    forget_open_files()
    override, default = (
        None if names is None else StatedClasses(names=tuple(names), origin="--class_names")
        for names in (class_names, default_class_names)
    )
    given = GivenClasses(override, default, unlabelled)
    location = location.removeprefix("file://")
    if labels and unlabelled:
        raise ConfigError(f"--labels {labels} and --unlabelled: give one of them")
    label_file = _absolute(labels) if labels else None
    if registered := open_registered(location, split, given):
        refuse_labels(location, label_file)
        return registered
    if "://" in location:
        refuse_labels(location, label_file)
        return open_remote(location, split, given)
    folder = glyphs_folder() if location == "glyphs" else _absolute(location)
    if not folder.is_dir():
        return _open_pattern(location, split, given, label_file)
    form = open_folder_form(location, folder, split, given, label_file, _training_sibling(folder))
    return form or _open_folder(location, kaggle_folder(folder), split, given, label_file)


def _absolute(path: str) -> Path:
    """Make a path absolute, so that a folder has a name and a parent even if it is given as `.`."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve() would follow links


def _open_folder(location: str, folder: Path, split: str, given: GivenClasses, labels: Path | None) -> Source:
    """Open one split of a folder of splits, or all of a folder without splits."""
    groups = _group_tars(folder)
    like_splits = [name for name in class_folders(folder) if name == split or split_of(name)]
    parts = [name for name in like_splits if _holds_dataset(folder / name, given)]
    shards, part = choose_split(split, list(groups), str(folder)), choose_split(split, parts, str(folder))
    if shards is not None and part is not None:
        raise DataError(_ambiguous_split(folder / part, groups[shards]))
    if shards is not None:
        return _open_tars(location, groups[shards], split, given, labels).with_notes(_note_loose(folder))
    refuse_labels(location, labels)
    if part is not None:
        train = choose_split("train", parts, str(folder))
        source = _open_part(location, folder / part, folder / train if train else None, given)
        count = count_images if given.unlabelled else count_loose_images
        extra = [n for n in class_folders(folder) if not split_of(n) and count(folder / n)]
        note = f"{folder}: {shorten_list(extra)} hold images next to the split {part!r} and are left out"
        return source.with_notes(note if extra else None, _note_loose(folder))
    others = [*(name for name, paths in groups.items() if names_split(paths[0].stem)), *parts]
    if others:
        raise DataError(
            f"{folder}: no split {split!r} (no {split}-*.tar, no {split}/); found {', '.join(sorted(set(others)))}. "
            "Name one of these with --split (--val_split for validation)"
        )
    source = _open_part(location, folder, _training_sibling(folder), given)
    named, wanted = split_of(folder.name), split_of(split)
    if not named or not wanted or named == wanted or split == "train":  # train is the default, not a request
        return source
    return source.with_notes(f"{folder}: is named like the split {named!r}, but {split!r} was requested")


def _open_part(location: str, folder: Path, train: Path | None, given: GivenClasses) -> Source:
    """Open a folder of shards, of class folders, which are numbered like the training split's, or of any images."""
    groups = _group_tars(folder)
    shards = sorted(path for paths in groups.values() for path in paths)
    if shards and class_folders(folder):
        raise DataError(_ambiguous_split(folder, shards))
    if len({split_of(name) for name in groups} - {None}) > 1:
        raise DataError(
            f"{folder}: holds tars of several splits, {shorten_list(sorted(groups))}; name the tars of one as a "
            f"pattern, such as '{folder}/{next(iter(groups))}-{{0000..0009}}.tar'"
        )
    description = read_description(folder)
    if shards:
        source = tar_source(location, shards, unlabelled=given.unlabelled).with_notes(_note_loose(folder))
        return describe_tars(source, description, given)
    if given.unlabelled:
        return describe_unlabelled(unlabelled_folder_source(location, folder), description, given)
    classes = given.choose(description)
    if classes is None and train and train != folder:
        classes = StatedClasses(names=tuple(class_folders(train)), origin=f"the training split, {train},")
    source = folder_source(location, folder, classes)
    if description and description.policy:
        source = dataclasses.replace(source, policy=description.policy)
    return source.with_notes(description.note if description and not given.override else None)


def _note_loose(folder: Path) -> str | None:
    """A note on images beside a folder's splits or shards."""
    loose = count_loose_images(folder)
    return f"{folder}: {loose} images next to the splits or shards are left out" if loose else None


def _group_tars(folder: Path) -> dict[str, list[Path]]:
    """A folder's tars by the part of their names before the number; raises DataError for compressed ones among them."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.tar")):
        if not is_junk(path.name):
            groups.setdefault(shard_group(path.stem), []).append(path)
    stems = {path.stem for paths in groups.values() for path in paths}
    compressed = [
        path
        for path in sorted(folder.iterdir())
        if (match := _COMPRESSED_TAR.fullmatch(path.name)) and match[1] not in stems
    ]
    if groups and compressed:
        raise DataError(
            f"{compressed[0]}: compressed, so its samples cannot be read at their offsets ({len(compressed)} such tars "
            f"next to {len(stems)} plain ones): unpack them, or move them elsewhere"
        )
    return groups


def _holds_dataset(folder: Path, given: GivenClasses) -> bool:
    """Whether a folder named like a split can be one; a class may be named `train`, but holds only images."""
    if given.unlabelled and count_loose_images(folder):
        return True
    return bool(class_folders(folder)) or any(folder.glob("*.tar"))


def _training_sibling(folder: Path) -> Path | None:
    """The training split next to a folder that is named like another split."""
    if split_of(folder.name) in (None, "train"):
        return None
    parent = folder.parent
    names = [name for name in os.listdir(parent) if split_of(name) == "train"]  # noqa: PTH208
    found = [parent / name for name in names if (parent / name).is_dir() and class_folders(parent / name)]
    return found[0] if len(found) == 1 else None


def _ambiguous_split(folder: Path, shards: Sequence[Path]) -> str:
    return (
        f"{folder} holds class folders, {shorten_list(class_folders(folder))}, and there are tars of the same split, "
        f"{shorten_list([path.name for path in shards])}; say which you mean: name '{_brace_pattern(shards)}', or the "
        f"folder {folder if folder != shards[0].parent else 'with the tars moved elsewhere'}"
    )


def _brace_pattern(shards: Sequence[Path]) -> str:
    """A brace pattern of shards that are numbered without gaps; else the first shard's path."""
    matches = [match for path in shards if (match := re.fullmatch(r"(.*?)(\d+)", path.stem))]
    if len(shards) > 1 and len(matches) == len(shards) and len({match[1] for match in matches}) == 1:
        first, last = matches[0], matches[-1]
        if int(last[2]) - int(first[2]) + 1 == len(shards):
            return f"{shards[0].parent}/{first[1]}{{{first[2]}..{last[2]}}}.tar"
    return str(shards[0])


def _open_pattern(location: str, split: str, given: GivenClasses, labels: Path | None) -> Source:
    refuse_parquet(_absolute(location), split)
    paths = [_absolute(name) for name in expand_braces(location)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError(
            f"{missing[0]}: no such file"
            f"{f' ({len(missing)} of {len(paths)} shards are missing)' if len(paths) > 1 else ''}; --data wants "
            "'glyphs', tar shards such as 'train-{0000..0009}.tar' (quoted), a folder of images, shards or a saved "
            "dataset, a CSV of path,label lines, ImageNet as docs/imagenet.md has it, or NAME:PLACE of a plug-in, of "
            f"which here are {', '.join(registered_sources()) or 'none'}"
            f"{failed_plugins() if ':' in location else ''}"
        )
    return _open_tars(location, paths, split, given, labels)


def _open_tars(location: str, paths: list[Path], split: str, given: GivenClasses, labels: Path | None) -> Source:
    """Open shards, or one file of another form."""
    form = open_file_form(location, paths[0], split, given, labels) if len(paths) == 1 else None
    if form:
        return form
    refuse_labels(location, labels)
    descriptions = [read_description(folder) for folder in dict.fromkeys(path.parent for path in paths)]
    source = tar_source(location, paths, unlabelled=given.unlabelled)
    return describe_tars(source, common_description(descriptions, location), given)
