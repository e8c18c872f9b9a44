"""What a dataset states of itself, in dataset.json or by its user: class names, and how its views are drawn."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pld.classes.matching import listed
from pld.classes.names import checked_names
from pld.errors import ConfigError, DataError
from pld.images.sources.folders import StatedClasses
from pld.images.sources.source import Source
from pld.images.sources.splits import split_of
from pld.views import Policy, policy_from_json

# Beside the shards or class folders, or one folder up; optional: {"class_names": [...], "view_policy": {...}}.
DATASET_FILE = "dataset.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """What dataset.json says."""

    class_names: tuple[str, ...]
    policy: Policy | None
    where: str
    note: str | None = None


class Given(NamedTuple):
    """Class names that the caller gives: for all data, and for data that state none."""

    always: StatedClasses | None
    otherwise: StatedClasses | None


def stated(names: Sequence[str] | None) -> StatedClasses | None:
    """Class names that the caller states, if any."""
    return None if names is None else StatedClasses(names=tuple(names), origin="--class_names")


def read_description(folder: Path) -> Description | None:
    """What dataset.json says, which lies in the folder or one up; a note where it may be another dataset's."""
    path = next((found for found in (folder / DATASET_FILE, folder.parent / DATASET_FILE) if found.is_file()), None)
    if path is None:
        return None
    try:
        description = parse_description(path.read_text(encoding="utf-8"), str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if path.parent == folder or split_of(folder.name):
        return description
    return dataclasses.replace(description, note=f"{folder}: its classes are named by {path}, one folder up")


def parse_description(text: str, where: str) -> Description:
    """The content of dataset.json; raises DataError naming the place where it is something else."""
    try:
        described: Any = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: not readable as JSON: {error}") from error
    names = described.get("class_names") if isinstance(described, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f'{where}: wanted {{"class_names": [a name for each class], ...}}')
    policy = policy_from_json(described["view_policy"]) if "view_policy" in described else None
    try:
        return Description(class_names=checked_names(names, where), policy=policy, where=where)
    except ConfigError as error:
        raise DataError(str(error)) from error


def described_tars(source: Source, description: Description | None, given: Given) -> Source:
    """Tars with the names of their classes, whose labels are numbers already."""
    always = given.always
    if description and always and description.class_names != always.names:
        raise DataError(
            f"{source.location}: its labels number the {len(description.class_names)} classes of {description.where}, "
            f"{listed(description.class_names)}; {always.origin} lists {len(always.names)}, {listed(always.names)}. "
            f"Leave {always.origin} out, or mend {description.where}"
        )
    if description:
        source = dataclasses.replace(source, policy=description.policy or source.policy).noting(description.note)
    stated = always or given.otherwise
    names = description.class_names if description else stated.names if stated else None
    if names is None:
        return source
    where = description.where if description else "--class_names"
    if len(source) and int(source.labels.max()) >= len(names):
        raise DataError(f"{source.location}: label {source.labels.max()}, but {where} names {len(names)} classes")
    return dataclasses.replace(source, class_names=names)


def one_of(descriptions: Sequence[Description | None], location: str) -> Description | None:
    """The description of all folders; raises DataError where their labels number other classes."""
    if len({description and description.class_names for description in descriptions}) > 1:
        found = listed([description.where if description else "none" for description in descriptions])
        raise DataError(
            f"{location}: tars of folders whose labels number different classes, by {found}; give them one list of "
            "classes, or train on one folder"
        )
    return descriptions[0]
