"""Find the Parquet files of a split, by their names."""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from glob import has_magic
from pathlib import Path

from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

from pld.classes.matching import shorten_list
from pld.errors import DataError, ParquetFilesError
from pld.images.sources.image_files import is_image_name, is_junk
from pld.images.sources.splits import choose_split, split_of

_PARQUET = ".parquet"
# A shard of a split on the hub: train-00000-of-00294.parquet, or older, train-00000-of-00294-1a2b3c4d5e6f7a8b.parquet.
_NUMBERED = re.compile(r"(.*?)[-_.]?(\d+)(-of-(\d+))?(-[0-9a-f]{16})?")

# The hub's folders are at most REPO/CONFIG/SPLIT deep. Folders of images hold millions of files, so few names tell.
_DEPTH, _TELLING = 3, 64
# Missing files that an error names.
_NAMED = 10

# Where the hub's own tools put their files, and how they name them. Pictures beside that folder are a README's.
_HUB_FOLDER, _HUB_FILES = "data", "*-[0-9]*-of-[0-9]*.parquet"

# Folders that are looked into for an image; in a folder of images, the first few have one.
_MOST_FOLDERS = 256


def parquet_files(path: Path, split: str) -> list[Path]:
    """The Parquet files of a split that a file, a folder or a pattern names, sorted; none for anything else.

    In a folder, a file belongs to the split that its name begins with, as in train-00000-of-00294.parquet, else to the
    one that its folder is named after. Beside images or tars, in the folder or below it, Parquet files are not the
    dataset, unless the hub's tools wrote them.

    Raises:
        DataError: the folder has Parquet files, but none of the split; or files numbered -of-N are not all N.
    """
    if not path.is_dir():
        found = _matches(path)
        if not path.is_file():  # who names one file wants that one
            _check_complete(found)
        return found
    if not _is_of_hub(path) and _holds_images(path):
        return []
    files = sorted(each for folder in _holders(path, _DEPTH) for each in folder.glob(f"*{_PARQUET}"))
    groups: dict[str, list[Path]] = {}
    for each in files:
        groups.setdefault(_group(each, path), []).append(each)
    if not groups:
        return []
    chosen = choose_split(split, list(groups), str(path))
    if chosen is not None:
        folders = sorted({str(each.parent) for each in groups[chosen]})
        if len(folders) > 1:
            raise DataError(
                f"{path}: the split {chosen!r} lies in {len(folders)} folders, {shorten_list(folders)}; "
                "name one of them"
            )
        _check_complete(groups[chosen])
        return groups[chosen]
    if len(groups) == 1 and not split_of(next(iter(groups))):
        _check_complete(files)
        return files
    raise DataError(
        f"{path}: no split {split!r} among its Parquet files; found {', '.join(sorted(groups))}. Name one with --split"
    )


def refuse_parquet(path: Path, split: str) -> None:
    """Raise ParquetFilesError for Parquet files where images are read at their offsets, or as `parquet_files`."""
    if files := parquet_files(path, split):
        raise ParquetFilesError(
            f"{path}: {len(files)} Parquet files; they are compressed, so images cannot be read where they lie. Write "
            f"tar shards of them, pld data '{path}' --split {split} --shards OUT, and name OUT instead",
            files,
        )


def _matches(pattern: Path) -> list[Path]:
    """The files of a pattern such as data/train-*.parquet or data/train-{00000..00003}.parquet; none if one lacks."""
    if _PARQUET[1:] not in pattern.name.lower():
        return []
    if pattern.is_file():
        return [pattern] if _is_parquet(pattern.name) else []
    try:
        names = [Path(name) for name in braceexpand(str(pattern))]
    except UnbalancedBracesError:
        return []  # `open_source` says so
    if not all(_is_parquet(name.name) for name in names):
        return []
    folders = {folder: _names_in(folder) for folder in {name.parent for name in names}}
    found = []
    for name in names:
        there = folders[name.parent]
        matching = fnmatch.filter(sorted(there), name.name) if has_magic(name.name) else {name.name} & there
        if not matching:
            return []
        found += [name.parent / each for each in matching]
    return found


def _names_in(folder: Path) -> frozenset[str]:
    return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()  # noqa: PTH208


def _is_parquet(name: str) -> bool:
    return name.lower().endswith(_PARQUET)


def _is_of_hub(folder: Path) -> bool:
    try:
        with os.scandir(folder / _HUB_FOLDER) as entries:
            return any(fnmatch.fnmatch(entry.name, _HUB_FILES) for entry in itertools.islice(entries, _TELLING))
    except OSError:
        return False


def _holds_images(folder: Path) -> bool:
    """Whether there is an image or a tar in a folder or below it; stops at the first one."""
    waiting = [str(folder)]
    for _ in range(_MOST_FOLDERS):
        if not waiting:
            break
        below: list[str] = []
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if (is_image_name(entry.name) or entry.name.endswith(".tar")) and not is_junk(entry.name):
                        return True
                    if len(below) < _TELLING and _is_folder(entry):
                        below.append(entry.path)
        except OSError:
            continue  # whoever lists the folder for its images says what is wrong
        waiting += below
    return False


def _check_complete(files: Sequence[Path]) -> None:
    """Raise DataError unless files that are numbered -of-N are all N of them, each once."""
    series: dict[str, dict[int, list[Path]]] = {}
    for file in files:
        if (match := _NUMBERED.fullmatch(file.stem)) and match[4]:
            numbers = series.setdefault(f"{file.parent / match[1]}-*{match[3]}", {})
            numbers.setdefault(int(match[2]), []).append(file)
    for name, numbers in series.items():
        written = name.rpartition("-of-")[2]
        total = int(written)
        if repeated := next((each for each in numbers.values() if len(each) > 1), None):
            raise DataError(f"{repeated[0]} and {repeated[1].name} have one number; leave one version of the dataset")
        if num_missing := total - sum(number < total for number in numbers):
            lacking = itertools.islice((i for i in range(total) if i not in numbers), _NAMED)
            missing = ", ".join(f"{i:0{len(written)}d}" for i in lacking)
            raise DataError(
                f"{name}{_PARQUET}: {num_missing:,} of {total:,} files are missing: "
                f"{missing}{', ...' if num_missing > _NAMED else ''}; download them as well. To read some alone, "
                "rename them without -of-N"
            )
    if len(series) > len(stems := {name.rpartition("-*-of-")[0] for name in series}):
        raise DataError(
            f"{shorten_list(sorted(stems))}: files of several versions, {shorten_list(sorted(series))}; leave one"
        )


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
    if any(_is_parquet(entry.name) for entry in first):
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
