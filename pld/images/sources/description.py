"""dataset.json: a dataset's class names, and how its views are drawn."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pld.classes.matching import shorten_list
from pld.classes.names import check_names
from pld.errors import ConfigError, DataError
from pld.images.sources.folders import StatedClasses
from pld.images.sources.source import Source
from pld.images.sources.splits import split_of
from pld.views import Policy, policy_from_json

# Next to the shards or class folders, or one folder up; optional: {"class_names": [...], "view_policy": {...},
# "encoding": {...}}. Shards of re-encoded images have it even if their classes have no names.
DATASET_FILE = "dataset.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """The content of dataset.json."""

    classes: StatedClasses | None
    policy: Policy | None
    encoding: str | None = None
    note: str | None = None


class GivenClasses(NamedTuple):
    """The caller's class names: `override` replaces those of the dataset, `default` is for datasets without any.

    Where the caller wants the images `unlabelled`, labels and the dataset's names of classes are not used.
    """

    override: StatedClasses | None
    default: StatedClasses | None
    unlabelled: bool = False

    def choose(self, description: Description | None) -> StatedClasses | None:
        """The class names in force for a dataset."""
        return self.override or (description.classes if description else None) or self.default


def read_description(folder: Path) -> Description | None:
    """Read dataset.json from the folder or its parent; the note says where it may be another dataset's."""
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
    """Parse dataset.json; raises DataError, which names the file, if it holds anything else."""
    try:
        described: Any = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: not readable as JSON: {error}") from error
    names = described.get("class_names") if isinstance(described, dict) else None
    encoding = described.get("encoding") if isinstance(described, dict) else None
    if names is None and encoding is not None:
        return Description(classes=None, policy=None, encoding=_encoding_words(encoding, where))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f'{where}: wanted {{"class_names": [a name for each class], ...}}')
    policy = policy_from_json(described["view_policy"]) if "view_policy" in described else None
    try:
        classes = StatedClasses(names=check_names(names, where), origin=where)
    except ConfigError as error:
        raise DataError(str(error)) from error
    return Description(
        classes=classes, policy=policy, encoding=None if encoding is None else _encoding_words(encoding, where)
    )


def _encoding_words(encoding: Any, where: str) -> str:
    """What was done to images whose shards `pld data --longest_side` wrote."""
    if not isinstance(encoding, dict) or not {"longest_side", "quality"} <= encoding.keys():
        raise DataError(f'{where}: wanted "encoding": {{"longest_side": ..., "quality": ...}}')
    side, quality = encoding["longest_side"], encoding["quality"]
    return (
        f"{where}: images were re-encoded, longest side {side}, JPEG quality {quality}: pixels are not the originals'"
    )


def describe_tars(source: Source, description: Description | None, given: GivenClasses) -> Source:
    """Give tars, whose labels are already numbers if they have any, their class names and view policy.

    Raises:
        DataError: the caller's names contradict dataset.json's, or a label has no name.
    """
    if given.unlabelled:
        return describe_unlabelled(source, description, given)
    override = given.override
    numbered = description.classes if description else None
    if numbered and override and numbered.names != override.names:
        raise DataError(
            f"{source.location}: its labels number the {len(numbered.names)} classes of {numbered.origin}, "
            f"{shorten_list(numbered.names)}; {override.origin} lists {len(override.names)}, "
            f"{shorten_list(override.names)}. Leave {override.origin} out, or correct {numbered.origin}"
        )
    if description:
        source = dataclasses.replace(source, policy=description.policy or source.policy).with_notes(
            description.note, description.encoding
        )
    classes = given.choose(description)
    if classes is None:
        return source
    labels = source.known_labels()
    if len(source) and int(labels.max()) >= len(classes.names):
        raise DataError(
            f"{source.location}: label {labels.max()}, but {classes.origin} names {len(classes.names)} classes"
        )
    return dataclasses.replace(source, class_names=classes.names)


def describe_unlabelled(source: Source, description: Description | None, given: GivenClasses) -> Source:
    """Give images without labels their view policy, and the classes that the caller names.

    Those of dataset.json are the classes of labels that are not used: they say nothing of what a teacher tells apart.
    """
    policy = description.policy if description else None
    names = given.override.names if given.override else None
    return dataclasses.replace(source, policy=policy or source.policy, class_names=names)


def common_description(descriptions: Sequence[Description | None], location: str) -> Description | None:
    """The description that several folders share; raises DataError if their class names differ."""
    classes = [description.classes if description else None for description in descriptions]
    if len({each and each.names for each in classes}) > 1:
        found = shorten_list([each.origin if each else "none" for each in classes])
        raise DataError(
            f"{location}: tars of folders whose labels number different classes, by {found}; give them one list of "
            "classes, or train on one folder"
        )
    return descriptions[0]
