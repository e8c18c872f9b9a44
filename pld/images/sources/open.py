"""`open_source`: from what the user names to a Source."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

from pld.classes.matching import listed
from pld.errors import DataError
from pld.images.sources.description import (
    DATASET_FILE,
    Description,
    Given,
    described_tars,
    one_of,
    parse_description,
    read_description,
    stated,
)
from pld.images.sources.folders import StatedClasses, class_folders, folder_source, holds_images
from pld.images.sources.glyphs import glyphs_folder
from pld.images.sources.listing import is_junk
from pld.images.sources.source import Source, forget_open_files
from pld.images.sources.splits import choose_split, shard_group, split_of
from pld.images.sources.tars import remote_tar_source, tar_source
from pld.remote.driver import without_password
from pld.remote.image_shards import RemotePlace

_PACKED = re.compile(r"(.+)(?:\.tar\.(?:gz|bz2|xz|zst|lz4)|\.tgz)")


def open_source(
    location: str,
    split: str = "train",
    *,
    class_names: Sequence[str] | None = None,
    default_class_names: Sequence[str] | None = None,
) -> Source:
    """Open a dataset.

    Class names fix the numbers of the classes: `class_names` if given, else those of dataset.json, else
    `default_class_names`, else the class folders of the training split. Tars without any have numbers alone.

    Args:
        location: `glyphs`; a path or brace pattern of tar shards (quoted: shells expand braces); a folder of
            shards `SPLIT-*.tar`; a folder in ImageFolder's layout, either of one split or with one folder a split.
            Tar shards, and folders of them, may be behind a URL such as s3://BUCKET/train-{0000..0009}.tar.
        split: which part of a folder, by its name or another word for it (val, valid, validation, seg_val); a pattern
            that names its files is taken as it stands.
        class_names: in the order of the classes' numbers.
        default_class_names: the same, for data that state none.

    Raises:
        DataError: nothing is there, or what is there cannot be used; see `tar_source` and `folder_source`.
        OutputError, ConfigError: see `remote_tar_source`.
    """
    forget_open_files()
    given = Given(stated(class_names), stated(default_class_names))
    location = location.removeprefix("file://")
    if "://" in location:
        return _open_remote(location, split, given)
    folder = glyphs_folder() if location == "glyphs" else _absolute(location)
    if not folder.is_dir():
        return _from_pattern(location, given)
    return _open_folder(location, folder, split, given)


def _absolute(path: str) -> Path:
    """So that a folder has a name and a parent, also where it is given as `.`."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve() would follow links


def _open_folder(location: str, folder: Path, split: str, given: Given) -> Source:
    """One split of a folder of splits, or all of a folder without."""
    groups = _tars_by_group(folder)
    parts = [
        name for name in class_folders(folder) if (name == split or split_of(name)) and _holds_a_dataset(folder / name)
    ]
    shards, part = choose_split(split, list(groups), str(folder)), choose_split(split, parts, str(folder))
    if shards is not None and part is not None:
        raise DataError(_two_forms(folder / part, groups[shards]))
    if shards is not None:
        return described_tars(tar_source(location, groups[shards]), read_description(folder), given)
    if part is not None:
        train = choose_split("train", parts, str(folder))
        source = _open_part(location, folder / part, folder / train if train else None, given)
        beside = [name for name in class_folders(folder) if not split_of(name) and holds_images(folder / name)]
        told = f"{folder}: {listed(beside)} hold images beside the split {part!r} and are left out" if beside else None
        return source.noting(told)
    others = [*(name for name, paths in groups.items() if _names_a_split(paths[0].stem)), *parts]
    if others:
        raise DataError(
            f"{folder}: no split {split!r} (no {split}-*.tar, no {split}/); found {', '.join(sorted(set(others)))}. "
            "Name one of these with --split (--val_split for validation)"
        )
    source = _open_part(location, folder, _training_sibling(folder), given)
    named, asked = split_of(folder.name), split_of(split)
    other = named and asked and named != asked and split != "train"  # which nobody has to ask for
    return source.noting(f"{folder}: is named as the split {named!r}, and {split!r} was asked for" if other else None)


def _open_part(location: str, folder: Path, train: Path | None, given: Given) -> Source:
    """A folder of shards, or of class folders, whose numbers are those of the training split's."""
    groups = _tars_by_group(folder)
    shards = sorted(path for paths in groups.values() for path in paths)
    if shards and class_folders(folder):
        raise DataError(_two_forms(folder, shards))
    if len({split_of(name) for name in groups} - {None}) > 1:
        raise DataError(
            f"{folder}: holds tars of several splits, {listed(sorted(groups))}; name the tars of one as a pattern, "
            f"such as '{folder}/{next(iter(groups))}-{{0000..0009}}.tar'"
        )
    description = read_description(folder)
    if shards:
        return described_tars(tar_source(location, shards), description, given)
    stated = given.always
    if stated is None and description:
        stated = StatedClasses(names=description.class_names, origin=description.where)
    stated = stated or given.otherwise
    if stated is None and train and train != folder:
        stated = StatedClasses(names=tuple(class_folders(train)), origin=f"the training split, {train},")
    source = folder_source(location, folder, stated)
    if description and description.policy:
        source = dataclasses.replace(source, policy=description.policy)
    return source.noting(description.note if description and not given.always else None)


def _tars_by_group(folder: Path) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.tar")):
        if not is_junk(path.name):
            groups.setdefault(shard_group(path.stem), []).append(path)
    unpacked = {path.stem for paths in groups.values() for path in paths}
    packed = [
        path
        for path in sorted(folder.iterdir())
        if (match := _PACKED.fullmatch(path.name)) and match[1] not in unpacked
    ]
    if groups and packed:
        raise DataError(
            f"{packed[0]}: compressed, so its samples cannot be read at their places ({len(packed)} such beside "
            f"{len(unpacked)} tars): unpack them, or move them elsewhere"
        )
    return groups


def _names_a_split(shard: str) -> bool:
    """Whether a shard's name tells which split it belongs to: by a split's word, or by a name before a hyphen."""
    return "-" in shard or split_of(shard_group(shard.removesuffix(".tar"))) is not None


def _holds_a_dataset(folder: Path) -> bool:
    """Whether a folder that is named like a split can be one: a class may be named `train`, and holds images alone."""
    return bool(class_folders(folder)) or any(folder.glob("*.tar"))


def _training_sibling(folder: Path) -> Path | None:
    """Where the training split lies beside a folder that is named as another split."""
    if split_of(folder.name) in (None, "train"):
        return None
    parent = folder.parent
    names = [name for name in os.listdir(parent) if split_of(name) == "train"]  # noqa: PTH208
    found = [parent / name for name in names if (parent / name).is_dir() and class_folders(parent / name)]
    return found[0] if len(found) == 1 else None


def _two_forms(folder: Path, shards: Sequence[Path]) -> str:
    return (
        f"{folder} holds class folders, {listed(class_folders(folder))}, and there are tars of the same split, "
        f"{listed([path.name for path in shards])}; say which are meant: name '{_pattern(shards)}', or the folder "
        f"{folder if folder != shards[0].parent else 'with the tars moved elsewhere'}"
    )


def _pattern(shards: Sequence[Path]) -> str:
    """A brace pattern of shards that are numbered without gaps; else the first one's path."""
    found = [re.fullmatch(r"(.*?)(\d+)", path.stem) for path in shards]
    parts = [(match[1], match[2]) for match in found if match]
    first, last = (parts[0], parts[-1]) if parts else (("", "0"), ("", "0"))
    whole = len(parts) == len(shards) == int(last[1]) - int(first[1]) + 1 and {start for start, _ in parts} == {
        first[0]
    }
    return (
        f"{shards[0].parent}/{first[0]}{{{first[1]}..{last[1]}}}.tar" if whole and len(shards) > 1 else str(shards[0])
    )


def _open_remote(location: str, split: str, given: Given) -> Source:
    urls = _expanded(location)
    place = RemotePlace(urls[0])
    folder = urls[0].rpartition("/")[0]
    if len(urls) == 1 and not urlsplit(location).path.endswith(".tar"):
        folder = location.rstrip("/")
        tars = [name for name in place.names(folder) if name.endswith(".tar") and not is_junk(name)]
        groups = {shard_group(name.removesuffix(".tar")) for name in tars}
        group = choose_split(split, sorted(groups), without_password(folder))
        chosen = [name for name in tars if shard_group(name.removesuffix(".tar")) == group]
        urls = [f"{folder}/{name}" for name in chosen] or _of_one_split(tars, folder)
        if not urls:
            others = ", ".join(sorted(groups)) or "no tars at all"
            raise DataError(
                f"{without_password(folder)}: no {split}-*.tar; found {others}. Name a split that is there with "
                "--split (--val_split for validation). Behind URLs --data wants tar shards; a folder of images is to "
                "be packed into such first, or copied to a local disk"
            )
    source = remote_tar_source(without_password(location), place, place.shards(urls))
    folders = dict.fromkeys([folder, *(url.rpartition("/")[0] for url in urls)])
    return described_tars(source, one_of([_remote_description(place, each) for each in folders], location), given)


def _of_one_split(tars: list[str], folder: str) -> list[str]:
    """All tars of a folder where their names tell no splits."""
    return [] if any(map(_names_a_split, tars)) else [f"{folder}/{name}" for name in tars]


def _remote_description(place: RemotePlace, folder: str) -> Description | None:
    found = ((without_password(url), place.text(url)) for url in _description_urls(folder))
    return next((parse_description(text, where) for where, text in found if text is not None), None)


def _description_urls(folder: str) -> list[str]:
    """Where a dataset's description may be: beside the shards, or one folder up unless that is the bucket's list."""
    parent = folder.rpartition("/")[0]
    folders = [folder] if parent.endswith((":/", ":")) else [folder, parent]
    return [f"{found}/{DATASET_FILE}" for found in folders]


def _expanded(location: str) -> list[str]:
    try:
        return list(braceexpand(location))
    except UnbalancedBracesError as error:
        raise DataError(f"{location}: unbalanced braces; wanted e.g. 'train-{{0000..0009}}.tar'") from error


def _from_pattern(location: str, given: Given) -> Source:
    paths = [_absolute(name) for name in _expanded(location)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError(
            f"{missing[0]}: no such file"
            f"{f' ({len(missing)} of {len(paths)} shards are missing)' if len(paths) > 1 else ''}; --data wants "
            "'glyphs', tar shards such as 'train-{0000..0009}.tar' (quoted), or a folder"
        )
    descriptions = [read_description(folder) for folder in dict.fromkeys(path.parent for path in paths)]
    return described_tars(tar_source(location, paths), one_of(descriptions, location), given)
