"""Typed access to the fields of JSON that strangers wrote: every value is checked once, where it enters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pld.errors import CorruptStoreError
from pld.store.format.canonical import shown

SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_DEPTH = 32
# Names become parts of file names, on any file system and in any URL.
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Fields:
    """One JSON object: take each field as what it must be, then `done`, which refuses fields nobody took.

    Every method raises CorruptStoreError naming the file, the field, what was found and what was wanted.
    """

    def __init__(self, value: Any, where: str) -> None:
        self._where = where
        if not isinstance(value, dict):
            self._refuse(value, "an object")
        self._values: Mapping[str, Any] = value
        self._taken: set[str] = set()

    def take(self, name: str) -> Any:
        """The field's value as it is."""
        if name not in self._values:
            raise CorruptStoreError(f"{self._where}: the field {name!r} is missing")
        self._taken.add(name)
        return self._values[name]

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return name in self._values

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer in low..high."""
        value = self.take(name)
        if type(value) is not int or not low <= value <= high:
            self._refuse(value, f"an integer in {low}..{high}", name)
        return int(value)

    def number(self, name: str) -> float:
        """A finite number (JSON has no others here)."""
        return self._number(self.take(name), name)

    def text(self, name: str, pattern: re.Pattern[str] | None = None) -> str:
        """A string, wholly matching `pattern` where one is given."""
        value = self.take(name)
        if not isinstance(value, str) or (pattern is not None and not pattern.fullmatch(value)):
            self._refuse(value, "a string" if pattern is None else f"a string like {pattern.pattern}", name)
        return str(value)

    def mapping(self, name: str) -> dict[str, Any]:
        """An object of any content, nested 32 deep at most so that nothing done with it can exhaust the stack."""
        value = self.take(name)
        if not isinstance(value, dict) or not _is_nested_within(value, _MAX_DEPTH):
            self._refuse(value, f"an object nested at most {_MAX_DEPTH} deep", name)
        return dict(value)

    def fields(self, name: str) -> Fields:
        """An object, whose fields are to be taken in turn."""
        return Fields(self.take(name), f"{self._where}: {name}")

    def items(self, name: str) -> list[Any]:
        """A list, of any content."""
        value = self.take(name)
        if not isinstance(value, list):
            self._refuse(value, "a list", name)
        return list(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self.items(name)
        if not all(isinstance(value, str) for value in values):
            self._refuse(values, "a list of strings", name)
        return tuple(values)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        return tuple(self._number(value, name) for value in self.items(name))

    def integers(self, name: str, low: int, high: int, count: int) -> tuple[int, ...]:
        """A list of `count` integers in low..high."""
        values = self.items(name)
        if len(values) != count or not all(type(value) is int and low <= value <= high for value in values):
            self._refuse(values, f"a list of {count} integers in {low}..{high}", name)
        return tuple(values)

    def histogram(self, name: str, low: int, high: int) -> dict[int, int]:
        """A list of [bin, count] pairs with bins in low..high."""
        pairs = self.items(name)
        for pair in pairs:
            # Spelled out: a store of ImageNet's size has a hundred thousand of them.
            whole = type(pair) is list and len(pair) == 2 and type(pair[0]) is int and type(pair[1]) is int
            if not whole or not low <= pair[0] <= high or pair[1] < 0:
                self._refuse(pair, f"a pair of a bin in {low}..{high} and a count", name)
        return dict(pairs)

    def done(self) -> None:
        """Refuse fields that nobody took: they would be silently lost."""
        unknown = sorted(set(self._values) - self._taken)
        if unknown:
            raise CorruptStoreError(f"{self._where}: found the unknown field {unknown[0]!r}, wanted only format 1's")

    def _number(self, value: Any, name: str) -> float:
        if type(value) not in (int, float) or not abs(value) < 1e300:
            self._refuse(value, "a finite number", name)
        return float(value)

    def _refuse(self, value: Any, wanted: str, name: str | None = None) -> None:
        field = "" if name is None else f" field {name!r}:"
        raise CorruptStoreError(f"{self._where}:{field} found {shown(value)}, wanted {wanted}")


def _is_nested_within(value: Any, depth: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_nested_within(child, depth - 1) for child in children)
