"""`open_source`: from what the user names to a Source."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

from pld.errors import DataError
from pld.images.folders import folder_source
from pld.images.glyphs import glyphs_folder
from pld.images.remote_shards import RemotePlace
from pld.images.source import Source, forget_open_files
from pld.images.tars import remote_tar_source, tar_source
from pld.remote import without_password
from pld.views import policy_from_json

# Beside the shards, or one folder up for a folder of splits; optional: {"class_names": [...], "view_policy": {...}}.
DATASET_FILE = "dataset.json"


def open_source(location: str, split: str = "train") -> Source:
    """Open a dataset.

    Args:
        location: `glyphs`; a path or brace pattern of tar shards (quoted: shells expand braces); a folder of
            shards `SPLIT-*.tar`; a folder in ImageFolder's layout, either of one split or with one folder a split.
            Tar shards, and folders of them, may be behind a URL such as s3://BUCKET/train-{0000..0009}.tar.
        split: which part of a folder; a pattern that names its files is taken as it stands.

    Raises:
        DataError: nothing is there, or what is there cannot be used; see `tar_source` and `folder_source`.
        OutputError, ConfigError: see `remote_tar_source`.
    """
    forget_open_files()
    location = location.removeprefix("file://")
    if "://" in location:
        return _open_remote(location, split)
    folder = glyphs_folder() if location == "glyphs" else Path(location).expanduser()
    if not folder.is_dir():
        return _from_pattern(location)
    shards = sorted(folder.glob(f"{split}-*.tar"))
    if shards:
        return _described(tar_source(location, shards), folder)
    if (folder / split).is_dir():
        return _open_folder(location, folder / split)
    others = sorted({path.name.rpartition("-")[0] for path in folder.glob("*-*.tar")})
    others += [name for name in ("train", "val", "validation", "test") if (folder / name).is_dir()]
    if others:
        raise DataError(f"{folder}: no split {split!r} (no {split}-*.tar, no {split}/); found {', '.join(others)}")
    return _open_folder(location, folder)


def _open_folder(location: str, folder: Path) -> Source:
    shards = sorted(folder.glob("*.tar"))
    return _described(tar_source(location, shards) if shards else folder_source(location, folder), folder)


def _open_remote(location: str, split: str) -> Source:
    urls = _expanded(location)
    place = RemotePlace(urls[0])
    folder = urls[0].rpartition("/")[0]
    if len(urls) == 1 and not urlsplit(location).path.endswith(".tar"):
        folder = location.rstrip("/")
        tars = [name for name in place.names(folder) if name.endswith(".tar")]
        urls = [f"{folder}/{name}" for name in tars if name.startswith(f"{split}-")] or _of_one_split(tars, folder)
        if not urls:
            others = ", ".join(sorted({name.rpartition("-")[0] for name in tars})) or "no tars at all"
            raise DataError(
                f"{without_password(folder)}: no {split}-*.tar; found {others}. Behind URLs --data wants tar shards; a "
                "folder of images is to be packed into such first, or copied to a local disk"
            )
    source = remote_tar_source(without_password(location), place, place.shards(urls))
    found = ((without_password(url), place.text(url)) for url in _descriptions(folder))
    return next((_described_by(source, text, where) for where, text in found if text is not None), source)


def _of_one_split(tars: list[str], folder: str) -> list[str]:
    """All tars of a folder where their names tell no splits."""
    return [] if any("-" in name for name in tars) else [f"{folder}/{name}" for name in tars]


def _descriptions(folder: str) -> list[str]:
    """Where a dataset's description may be: beside the shards, or one folder up unless that is the bucket's list."""
    parent = folder.rpartition("/")[0]
    folders = [folder] if parent.endswith((":/", ":")) else [folder, parent]
    return [f"{found}/{DATASET_FILE}" for found in folders]


def _expanded(location: str) -> list[str]:
    try:
        return list(braceexpand(location))
    except UnbalancedBracesError as error:
        raise DataError(f"{location}: unbalanced braces; wanted e.g. 'train-{{0000..0009}}.tar'") from error


def _from_pattern(location: str) -> Source:
    paths = [Path(name).expanduser() for name in _expanded(location)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError(
            f"{missing[0]}: no such file"
            f"{f' ({len(missing)} of {len(paths)} shards are missing)' if len(paths) > 1 else ''}; --data wants "
            "'glyphs', tar shards such as 'train-{0000..0009}.tar' (quoted), or a folder"
        )
    return _described(tar_source(location, paths), paths[0].parent)


def _described(source: Source, folder: Path) -> Source:
    """Add what dataset.json says of the dataset: its class names, and how its views are drawn."""
    path = next((found for found in (folder / DATASET_FILE, folder.parent / DATASET_FILE) if found.is_file()), None)
    if path is None:
        return source
    try:
        return _described_by(source, path.read_text(), str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _described_by(source: Source, text: str, where: str) -> Source:
    try:
        described: Any = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: not readable as JSON: {error}") from error
    names = described.get("class_names") if isinstance(described, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f'{where}: wanted {{"class_names": [a name for each class], ...}}')
    source = dataclasses.replace(source, class_names=tuple(names))
    if "view_policy" in described:
        source = dataclasses.replace(source, policy=policy_from_json(described["view_policy"]))
    if len(source) and int(source.labels.max()) >= len(names):
        raise DataError(f"{source.location}: label {source.labels.max()}, but {where} names {len(names)} classes")
    return source
