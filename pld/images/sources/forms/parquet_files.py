"""Find the Parquet files of a split, by their names."""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

from pld.classes.matching import shorten_list
from pld.errors import DataError
from pld.images.sources.splits import choose_split, split_of

_PARQUET = ".parquet"
# A shard of a split on the hub: train-00000-of-00294.parquet.
_NUMBERED = re.compile(r"(.*?)[-_.]?\d+(-of-\d+)?")

# The hub's folders are at most REPO/CONFIG/SPLIT deep. Folders of images hold millions of files, so few names tell.
_DEPTH, _TELLING = 3, 64


def parquet_files(path: Path, split: str) -> list[Path]:
    """The Parquet files of a split that a file, a folder or a pattern names, sorted; none for anything else.

    In a folder, a file belongs to the split that its name begins with, as in train-00000-of-00294.parquet, else to the
    one that its folder is named after.

    Raises:
        DataError: the folder has Parquet files, but none of the split.
    """
    if path.is_file() or not path.is_dir():
        found = [path] if path.is_file() else _matches(path)
        return found if found and all(each.name.lower().endswith(_PARQUET) for each in found) else []
    files = sorted(each for folder in _holders(path, _DEPTH) for each in folder.glob(f"*{_PARQUET}"))
    groups: dict[str, list[Path]] = {}
    for each in files:
        groups.setdefault(_group(each, path), []).append(each)
    if not groups or any(path.glob("*.tar")):
        return []
    chosen = choose_split(split, list(groups), str(path))
    if chosen is not None:
        folders = sorted({str(each.parent) for each in groups[chosen]})
        if len(folders) > 1:
            raise DataError(
                f"{path}: the split {chosen!r} lies in {len(folders)} folders, {shorten_list(folders)}; "
                "name one of them"
            )
        return groups[chosen]
    if len(groups) == 1 and not split_of(next(iter(groups))):
        return files
    raise DataError(
        f"{path}: no split {split!r} among its Parquet files; found {', '.join(sorted(groups))}. Name one with --split"
    )


def refuse_parquet(path: Path, split: str) -> None:
    """Raise DataError for Parquet files where images are read at their offsets."""
    if files := parquet_files(path, split):
        raise DataError(
            f"{path}: {len(files)} Parquet files; they are compressed, so images cannot be read where they lie. Write "
            f"tar shards of them, pld data '{path}' --split {split} --shards OUT, and name OUT instead"
        )


def _matches(pattern: Path) -> list[Path]:
    """The files of a pattern such as data/train-*.parquet or data/train-{00000..00003}.parquet; none if one lacks."""
    try:
        names = [Path(name) for name in braceexpand(str(pattern))]
    except UnbalancedBracesError:
        return []  # `open_source` says so
    found = []
    for name in names:
        there = sorted(name.parent.iterdir()) if name.parent.is_dir() else []
        matching = [each for each in there if fnmatch.fnmatch(each.name, name.name)]
        if not matching:
            return []
        found += matching
    return found


def _group(file: Path, folder: Path) -> str:
    match = _NUMBERED.fullmatch(file.stem)
    name = match[1] if match else file.stem
    return name if name and (split_of(name) or file.parent == folder) else file.parent.name


def _holders(folder: Path, depth: int) -> Iterator[Path]:
    """The folders that hold Parquet files, judged by the first names in each."""
    try:
        with os.scandir(folder) as entries:
            first = [entry for entry in itertools.islice(entries, _TELLING) if not entry.name.startswith(".")]
    except OSError:
        return  # whoever lists the folder for its images says what is wrong
    if any(entry.name.lower().endswith(_PARQUET) for entry in first):
        yield folder
    elif depth > 1:
        for entry in first:
            if _is_folder(entry):
                yield from _holders(Path(entry.path), depth - 1)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False
