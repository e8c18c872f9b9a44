"""dataset.json beside shards that are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pld.errors import OutputError
from pld.files import write_atomically, writing
from pld.images.reader import ImageReader
from pld.images.shards.encoding import Encoding
from pld.images.sources.description import DATASET_FILE
from pld.views import RandomResizedCrop, policy_to_json


def describe_shards(reader: ImageReader, out: Path, encoding: Encoding | None) -> None:
    """Write dataset.json, or find that the folder's says the same; nothing where there is nothing to say.

    Raises:
        OutputError: the folder's names other classes, or its images are encoded in another way.
    """
    path = out / DATASET_FILE
    described: dict[str, Any] = {}
    if reader.class_names is not None:
        described["class_names"] = list(reader.class_names)
    if reader.class_names is not None or reader.policy != RandomResizedCrop():
        described["view_policy"] = policy_to_json(reader.policy)
    if encoding:
        described["encoding"] = encoding.to_json() | ({"before": reader.encoding} if reader.encoding else {})
    elif reader.encoding:
        described["encoding"] = reader.encoding
    if described and not path.exists():
        _check_no_others(out, described)
        with writing(path), write_atomically(path) as temporary:
            temporary.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    if path.exists():
        _compare(path, described, reader.location)


def _check_no_others(out: Path, described: dict[str, Any]) -> None:
    """Raise OutputError if there are shards already, which the description would speak of as well."""
    if "encoding" in described and any(out.glob("*.tar")):
        raise OutputError(f"{out}: has shards whose images are not re-encoded; name another folder for those that are")


def _compare(path: Path, described: dict[str, Any], location: str) -> None:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutputError(f"{path}: not readable as JSON: {error}; remove it, or name another folder") from error
    if not isinstance(held, dict):
        raise OutputError(f"{path}: wanted a JSON object; remove it, or name another folder")
    if "class_names" in described and held.get("class_names") != described["class_names"]:
        raise OutputError(f"{path}: names other classes than {location}; name another folder")
    ours, theirs = _words(described.get("encoding")), _words(held.get("encoding"))
    if ours != theirs:
        raise OutputError(
            f"{path}: its images are {theirs}, these would be {ours}; give the same --longest_side and --quality, or "
            "name another folder"
        )


def _words(encoding: Any) -> str:
    if not isinstance(encoding, dict):
        return "as they were"
    return f"re-encoded by --longest_side {encoding.get('longest_side')} --quality {encoding.get('quality')}"
