"""dataset.json: a dataset's class names, and how its views are drawn."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
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
# "encoding": {...}}, of which shards whose classes have no names have the other two.
DATASET_FILE = "dataset.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """The content of dataset.json; `encoding` is how `pld data --longest_side` re-encoded the images, if it did."""

    classes: StatedClasses | None
    policy: Policy | None
    encoding: Mapping[str, Any] | None = None
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
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not readable as JSON: {error}") from error
    if not isinstance(described, dict):
        raise DataError(f'{where}: wanted {{"class_names": [a name for each class], ...}}')
    names, encoding = described.get("class_names"), described.get("encoding")
    if encoding is not None and not (isinstance(encoding, dict) and {"longest_side", "quality"} <= encoding.keys()):
        raise DataError(f'{where}: wanted "encoding": {{"longest_side": ..., "quality": ...}}')
    policy = policy_from_json(described["view_policy"]) if "view_policy" in described else None
    if names is None and (encoding or policy):
        return Description(classes=None, policy=policy, encoding=encoding)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f'{where}: wanted {{"class_names": [a name for each class], ...}}')
    try:
        classes = StatedClasses(names=check_names(names, where), origin=where)
    except ConfigError as error:
        raise DataError(str(error)) from error
    return Description(classes=classes, policy=policy, encoding=encoding)


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
        source = _with_description(source, description).with_notes(description.note)
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
    names = given.override.names if given.override else None
    source = dataclasses.replace(source, class_names=names)
    return _with_description(source, description) if description else source


def _with_description(source: Source, description: Description) -> Source:
    """The source with a dataset's view policy, and the record of how its images were re-encoded, with a note."""
    encoding = description.encoding
    source = dataclasses.replace(source, policy=description.policy or source.policy, encoding=encoding)
    if not encoding:
        return source
    settings = f"longest side {encoding['longest_side']}, JPEG quality {encoding['quality']}"
    return source.with_notes(
        f"{source.location}: its images were re-encoded, {settings}: their pixels are not the originals'"
    )


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
