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
from pld.images.sources.splits import shard_group
from pld.views import RandomResizedCrop, policy_to_json

# The folder beside finished shards in which others grow.
UNFINISHED = "unfinished"


def describe_shards(reader: ImageReader, out: Path, split: str, encoding: Encoding | None) -> None:
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
        _check_no_others(out, split, described)
        with writing(path), write_atomically(path) as temporary:
            temporary.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    if path.exists():
        _compare(path, described, reader.location)


def _check_no_others(out: Path, split: str, described: dict[str, Any]) -> None:
    """Raise OutputError if other splits' shards are there, finished or not, of which it would speak too."""
    shards = [path for folder in (out, out / UNFINISHED) for path in folder.glob("*.tar")]
    own = set() if "encoding" in described else {split}
    others = sorted({shard_group(path.stem) for path in shards} - own)
    if others:
        raise OutputError(
            f"{out}: holds shards of {others[0]!r} and no {DATASET_FILE}; one for {split!r} would speak of these too. "
            "Name another folder, or write both splits with the same --class_names and --longest_side"
        )


def _compare(path: Path, described: dict[str, Any], location: str) -> None:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutputError(f"{path}: not readable as JSON: {error}; remove it, or name another folder") from error
    if not isinstance(held, dict):
        raise OutputError(f"{path}: wanted a JSON object; remove it, or name another folder")
    if "class_names" in described and held.get("class_names") != described["class_names"]:
        raise OutputError(
            f"{path}: names other classes than {location}; if they are the same, of which some have no images here, "
            f"give --class_names {path}; else name another folder"
        )
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
