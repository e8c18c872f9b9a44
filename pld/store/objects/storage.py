"""Storage: whole objects under relative names. Nothing else in the store touches files or URLs.

Two promises carry the store's crash safety: an object under its final name is whole, and `put_exclusive` lets
exactly one of several writers create it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from pld.errors import CorruptStoreError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


Check = Callable[[bytes], None]


@runtime_checkable
class Storage(Protocol):
    """Whole objects under relative names such as `commits/v000-009/train-0012.json`."""

    url: str

    def read(self, name: str, max_bytes: int) -> bytes:
        """A whole object; NotCachedError where there is none, CorruptStoreError where it is larger than max_bytes."""

    def read_range(self, name: str, offset: int, num_bytes: int, check: Check | None = None) -> bytes:
        """Exactly num_bytes of an object; NotCachedError without it, CorruptStoreError where it ends before.

        `check` sees the bytes before anything is done with them, and raises CorruptStoreError.
        """

    def put(self, name: str, data: bytes) -> None:
        """Create an object whose name says its content: a second writer writes the same bytes."""

    def put_exclusive(self, name: str, data: bytes) -> bool:
        """Create an object unless it exists; whether this call created it."""

    def exists(self, name: str) -> bool:
        """Whether the object exists."""

    def list(self, prefix: str) -> list[str]:
        """Sorted names of all objects in the folder `prefix` and below; "" for all."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """The names that `list` gives, each with its object's bytes; 0 where a web server does not tell."""

    def leftovers(self) -> dict[str, str]:
        """Unfinished objects that killed (or still running) writers left: where each lies -> the name it was for."""

    def delete(self, name: str) -> None:
        """Remove an object or a leftover; fine where there is none."""


def checked_name(name: str, where: str) -> str:
    """The name, if it is one that an object can have; else raises CorruptStoreError."""
    if not _NAME.fullmatch(name):
        raise CorruptStoreError(f"{where}: found the object name {name!r}, which could lead out of the store")
    return name


def object_names(found: Iterable[str]) -> list[str]:
    """Those of the names that objects can have, sorted; the folder may hold other files."""
    return sorted(name for name in found if _NAME.fullmatch(name))
