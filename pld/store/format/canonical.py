"""Canonical JSON that carries its own digest: how store.json, blocks, commits and seals are written and read."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import reprlib
from collections.abc import Mapping
from typing import Any

from pld.errors import CorruptStoreError

# A dataclass's field is left out of its JSON where it has its default; others are always written.
OPTIONAL = {"optional": True}


def _as_json(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else json_fields(value)


def json_fields(value: Any) -> dict[str, Any]:
    """What a dataclass, or a mapping, is as a JSON object."""
    if isinstance(value, Mapping):
        return dict(value)
    fields = dataclasses.fields(value)  # a TypeError where it is no dataclass, as of all that JSON has not
    values = ((field, getattr(value, field.name)) for field in fields)
    return {field.name: held for field, held in values if field.metadata != OPTIONAL or held != field.default}


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_as_json
)


def canonical_json(value: Any) -> bytes:
    """The one way to write a JSON value or a dataclass: sorted keys, no spaces, UTF-8, no nan or infinity."""
    return _ENCODER.encode(value).encode()


def sha256_hex(data: bytes | memoryview) -> str:
    """sha256 as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def shown(value: Any) -> str:
    """A value for a message: short, however large or deep it is."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = 100
    return brief.repr(value)


def dump_document(content: Any) -> bytes:
    """A mapping or a dataclass as canonical JSON with one more field, `digest`: the sha256 of that without it."""
    return canonical_json({**json_fields(content), "digest": sha256_hex(canonical_json(content))}) + b"\n"


def load_document(data: bytes, where: str) -> dict[str, Any]:
    """The content that `dump_document` wrote, without its digest.

    Args:
        data: the file's bytes, from anyone.
        where: the file's place, for messages.

    Raises:
        CorruptStoreError: a single byte differs from what was written.
    """
    try:
        document: Any = json.loads(data)
        # Rewriting must give the same bytes: equal values in other spellings (spaces, 1e1 for 10) are changes too.
        genuine = isinstance(document, dict) and canonical_json(document) + b"\n" == data
    except (ValueError, RecursionError) as error:
        raise CorruptStoreError(f"{where}: found {_reason(error)}, wanted a JSON document of a pld store") from None
    if not genuine:
        raise CorruptStoreError(f"{where}: found JSON that is not in canonical form: its bytes were changed")
    content = {name: value for name, value in document.items() if name != "digest"}
    stated, true = document.get("digest"), sha256_hex(_without_digest(data, document))
    if stated != true:
        raise CorruptStoreError(f"{where}: its content has the digest {true}, it says {shown(stated)}: it was changed")
    return content


def _without_digest(data: bytes, document: Mapping[str, Any]) -> bytes:
    """A canonical document's bytes without its digest: cutting is twice as fast as writing it all once more."""
    field = canonical_json({"digest": document.get("digest")})[1:-1]
    before, _, after = data.removesuffix(b"\n").partition(field)
    return before.removesuffix(b",") + after if before.endswith(b",") else before + after.removeprefix(b",")


def _reason(error: Exception) -> str:
    return "endless nesting" if isinstance(error, RecursionError) else "bytes that are not JSON"
