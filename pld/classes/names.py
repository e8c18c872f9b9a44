"""Where class names come from: files, timm's lists of ImageNet's classes, a model's configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pld.errors import ConfigError, TeacherError

# Values of --class_names that are not files: timm's lists of ImageNet's classes, by WordNet id.
IMAGENET_SUBSETS = (
    *("imagenet-1k", "imagenet-12k", "imagenet-21k", "imagenet-21k-goog", "imagenet-21k-miil"),
    *("imagenet-22k", "imagenet-22k-ms"),
)


def read_class_names(location: str | None) -> tuple[str, ...] | None:
    """Read the names that `--class_names` gives, in the order of the class numbers; None if it is not given.

    Args:
        location: one of IMAGENET_SUBSETS, or a file: one name per line; or JSON: a list of names, of objects with a
            `wnid` or `name`, an object `{"class_names": [...]}`, or one from names to numbers or numbers to names.

    Raises:
        ConfigError: there is no such file, or it holds anything else.
    """
    if location is None:
        return None
    if location in IMAGENET_SUBSETS:
        return imagenet_names(location)
    text = _read(location, "--class_names", f"a file, or one of {', '.join(IMAGENET_SUBSETS)}")
    names = _parse_names(_parse_json(f"--class_names {location}", text)) if location.endswith(".json") else _lines(text)
    if names is None:
        raise ConfigError(f"--class_names {location}: wanted a JSON list of names, or an object of names and numbers")
    return check_names(names, f"--class_names {location}")


def imagenet_names(subset: str) -> tuple[str, ...]:
    """The WordNet ids of an ImageNet subset's classes, in the order that timm's models use."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo(subset).label_names())


def infer_names(num_classes: int) -> tuple[str, ...] | None:
    """The WordNet ids of the ImageNet subset with this many classes, as timm infers it; None if there is none."""
    from timm.data.imagenet_info import infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": num_classes})
    return imagenet_names(subset) if subset else None


def parse_label_names(value: Any, num_classes: int, where: str) -> tuple[str, ...] | None:
    """Parse the `label_names` of a model's config.json, a list or an object from numbers to names.

    Raises:
        TeacherError: they are not a different name for each class.
    """
    if not value:
        return None
    names = _parse_names(value)
    if names is None or len(names) != num_classes or len(set(names)) != num_classes:
        found = f"{len(names)} label_names" if names is not None else f"label_names {str(value)[:60]!r}"
        raise TeacherError(
            f"{where}: its config.json has {found}; wanted a different name for each of {num_classes} classes. Correct "
            "or remove them"
        )
    return tuple(names)


def check_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the names; raises ConfigError if one is empty or repeated."""
    seen: set[str] = set()
    for number, name in enumerate(names):
        if not name or name in seen:
            raise ConfigError(f"{where}: class {number} is {name!r}; wanted a name for each class, each name once")
        seen.add(name)
    if not names:
        raise ConfigError(f"{where}: found no names; wanted one for each class")
    return tuple(names)


def read_class_map(location: str | None) -> dict[str, str]:
    """Read the pairs that `--class_map` gives, our class -> the teacher's class; empty if it is not given.

    Args:
        location: a file: one pair per line, separated by a tab or a comma; or JSON, an object.

    Raises:
        ConfigError: there is no such file, it holds anything else, or a class is repeated.
    """
    if location is None:
        return {}
    text = _read(location, "--class_map", "a file")
    if location.endswith(".json"):
        value = _parse_json(f"--class_map {location}", text)
        if not isinstance(value, dict) or not all(_is_name(name) for name in value.values()):
            raise ConfigError(f"--class_map {location}: wanted a JSON object from class to class")
        return {name: str(other) for name, other in value.items()}
    pairs: dict[str, str] = {}
    for number, line in enumerate(_lines(text), start=1):
        name, _, other = (part.strip() for part in line.partition("\t" if "\t" in line else ","))
        if not name or not other or name in pairs:
            raise ConfigError(
                f"--class_map {location}: line {number}: found {line!r}, wanted 'the data's class, a tab, "
                "the teacher's class', each of the data's classes once"
            )
        pairs[name] = other
    return pairs


def _read(location: str, option: str, wanted: str) -> str:
    try:
        return Path(location).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option} {location}: cannot be read: {error}; wanted {wanted}") from error


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _parse_json(location: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_reject_duplicates)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{location}: not readable as JSON: {error}") from error


def _parse_names(value: Any) -> list[str] | None:
    """The names in any of the forms that `read_class_names` lists; None for anything else."""
    if isinstance(value, dict) and isinstance(value.get("class_names"), list):
        value = value["class_names"]
    if isinstance(value, list):
        names = [item.get("wnid", item.get("name")) if isinstance(item, dict) else item for item in value]
        return [str(name) for name in names] if all(map(_is_name, names)) else None
    if not isinstance(value, dict) or not value:
        return None
    if all(type(number) is int for number in value.values()):
        numbered = {number: name for name, number in value.items()}
    else:  # from the number to the name, or to [WordNet id, name]
        firsts = {number: name[0] if isinstance(name, list) and name else name for number, name in value.items()}
        if not all(number.isdecimal() and _is_name(name) for number, name in firsts.items()):
            return None
        numbered = {int(number): str(name) for number, name in firsts.items()}
    return [numbered[i] for i in range(len(value))] if set(numbered) == set(range(len(value))) else None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) or type(value) is int


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raise ValueError for an object with two fields of one name, of which JSON would silently keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name is repeated among {', '.join(name for name, _ in pairs[:20])}")
    return found
