"""Check JSON from others against the types of dataclasses, with msgspec."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from pld.errors import ConfigError, CorruptStoreError
from pld.store.format.canonical import json_fields, load_document, shown
from pld.store.objects.storage import Storage

T = TypeVar("T")

# Names become parts of file names, on any file system and in any URL.
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SafeName = Annotated[str, Meta(pattern=rf"^{SAFE_NAME.pattern}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
# Finite, and sums of them are too.
Number = Annotated[float, Meta(gt=-1e300, lt=1e300)]
MAX_DOCUMENT_BYTES = 2**26
_MAX_DEPTH = 32


def parse_document(kind: type[T], data: bytes, where: str) -> T:
    """What `dump_document` wrote of a `kind`; raises CorruptStoreError as `load_document` and `parse` do."""
    return parse(kind, load_document(data, where), where)


def read_document(storage: Storage, name: str, kind: type[T]) -> T:
    """A small object of a store; raises NotCachedError where there is none, CorruptStoreError as `parse_document`."""
    return parse_document(kind, storage.read(name, MAX_DOCUMENT_BYTES), f"{storage.url}/{name}")


def parse(kind: type[T], value: Any, where: str) -> T:
    """A JSON value, as `canonical_json` writes it, as a dataclass.

    Raises:
        CorruptStoreError: names `where`, the field, what was found and what was wanted: another type, a number out of
            its bounds, a field that is missing or unknown, or values that do not fit each other.
    """
    try:
        parsed = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise CorruptStoreError(f"{where}: {_explain(str(error), value)}") from None
    except ConfigError as error:
        raise CorruptStoreError(f"{where}: {error}") from None
    for fault in _differing_fields(value, parsed):
        raise CorruptStoreError(f"{where}: {fault}")
    return parsed


def check_nesting(value: Any, where: str, depth: int = _MAX_DEPTH) -> None:
    """Raise CorruptStoreError where a value is nested so deeply that what is done with it could exhaust the stack."""
    if depth < 0:
        raise CorruptStoreError(f"{where}: found endless nesting, wanted an object nested at most {_MAX_DEPTH} deep")
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        check_nesting(child, where, depth - 1)


def _explain(message: str, value: Any) -> str:
    """msgspec's message, such as "Expected `int` >= 1 - at `$.teacher.num_classes`", with what was found."""
    text, _, path = message.partition(" - at `$")
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        value = value[name or int(index)]
    wanted = text.partition(", got ")[0].replace("Expected", "wanted").replace("Object", "an object")
    return f"field {path.strip('.`')!r}: found {shown(value)}, {wanted}"


def _differing_fields(value: Any, parsed: Any, name: str = "") -> Iterator[str]:
    """What fields a JSON value has or lacks, against those that would be written of what it was parsed to."""
    if dataclasses.is_dataclass(parsed):
        written = json_fields(parsed)
        for field in sorted(value.keys() ^ written.keys()):
            fault = "unknown to format 1, or left out at this value" if field in value else "missing"
            yield f"field {shown(f'{name}.{field}'[1:])}: {fault}"
        for field, inner in written.items():
            yield from _differing_fields(value.get(field), inner, f"{name}.{field}")
    elif isinstance(parsed, tuple) and parsed and dataclasses.is_dataclass(parsed[0]):
        for index, inner in enumerate(parsed):
            yield from _differing_fields(value[index], inner, f"{name}[{index}]")
