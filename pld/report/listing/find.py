"""Find stores and runs below a local folder, by looking into its folders, or below a URL, by listing its objects."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

from pld.errors import DataError
from pld.store.documents.manifest import MANIFEST_NAME
from pld.store.objects.local_storage import LocalStorage
from pld.store.objects.open import open_storage

RUN_NAME = "config.yaml"
# Many programs write a config.yaml; a run's folder has one of these too.
_RUN_COMPANIONS = frozenset({"run.json", "metrics.jsonl", "checkpoints"})
DEPTH = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A store or a run, or a local folder that cannot be looked into.

    Attributes:
        name: below what was searched; "." for that itself.
        url: its own.
        kind: what it is, by the names of its files.
        reason: why it cannot be looked into.
    """

    name: str
    url: str
    kind: Literal["store", "run", "unreadable"]
    reason: str = ""


def find_places(url: str) -> list[Place]:
    """The stores and runs below a folder, down to `DEPTH` folders deep, or anywhere below a URL, sorted by name.

    Raises:
        DataError: there is no such folder.
        StoreError: the URL cannot be listed.
    """
    storage = open_storage(url)
    if isinstance(storage, LocalStorage):
        root = Path(storage.url)
        if not root.is_dir():
            raise DataError(f"{root}: there is no such folder; name one, or a URL such as s3://BUCKET/FOLDER")
        found = _walk(root, ".", DEPTH, set())
    else:
        found = _among(storage.list(""), url.rstrip("/"))
    return sorted(found, key=lambda place: place.name)


def _walk(folder: Path, name: str, depth: int, seen: set[Path]) -> Iterator[Place]:
    """Places in a local folder; links are followed, each folder once."""
    try:
        real = folder.resolve()
        entries = {entry.name: entry.is_dir() for entry in os.scandir(folder)}
    except OSError as error:
        yield Place(name=name, url=str(folder), kind="unreadable", reason=error.strerror or str(error))
        return
    if real in seen:
        return
    seen.add(real)
    if place := _place(name, str(folder), entries):
        yield place
    elif depth:
        for inner, is_folder in entries.items():
            if is_folder and not inner.startswith("."):
                yield from _walk(folder / inner, inner if name == "." else f"{name}/{inner}", depth - 1, seen)


def _among(names: Collection[str], url: str) -> Iterator[Place]:
    """Places among the names of all objects below a URL."""
    entries: dict[str, set[str]] = {}
    for name in names:
        folder, _, base = name.rpartition("/")
        entries.setdefault(folder, set()).add(base)
        above, _, last = folder.rpartition("/")
        entries.setdefault(above, set()).add(last)
    for folder, inside in entries.items():
        if place := _place(folder or ".", f"{url}/{folder}".rstrip("/"), inside):
            yield place


def _place(name: str, url: str, entries: Collection[str]) -> Place | None:
    if MANIFEST_NAME in entries:
        return Place(name=name, url=url, kind="store")
    if RUN_NAME in entries and not _RUN_COMPANIONS.isdisjoint(entries):
        return Place(name=name, url=url, kind="run")
    return None
