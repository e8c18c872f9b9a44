"""Match the classes of two lists by name.

A label is only a number; the name says which class it is. Names come from a file, dataset.json, folder names or a
model's config.json. Without them, classes are known by number only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from pld.errors import DataError

_MAX_SHOWN = 5
_MAP = "--class_map FILE, one line per class: the data's class, a tab, the teacher's class or its number"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classes:
    """The classes of a dataset, a teacher or a store.

    Attributes:
        names: in the order of the class numbers; None if only numbers are known.
        count: the number of classes; of labels without names, the highest plus one.
        owner: the dataset, teacher or store, for messages.
    """

    names: tuple[str, ...] | None
    count: int
    owner: str

    def describe(self) -> str:
        """The number of classes and the first few names, for messages."""
        names = f", {shorten_list(self.names)}" if self.names else " without names"
        return f"{self.owner}: {self.count} class{'es' if self.count != 1 else ''}{names}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match:
    """Where each class of one list is in another.

    Attributes:
        numbers: for each of our classes, the number of the same class in their list; all different.
        note: what had to be assumed; None if the names agree.
    """

    numbers: tuple[int, ...]
    note: str | None = None


def match_classes(
    ours: Classes, theirs: Classes, class_map: Mapping[str, str] | None = None, *, takes_map: bool = False
) -> Match:
    """Find each of our classes among theirs: by `class_map`, else by its name.

    If one side has only numbers, names that are numbers, such as ImageNetV2's folders 0 to 999, are matched with them.
    Other names can only be matched in order, which is done if both sides have the same number of classes.

    Args:
        ours: the classes to find.
        theirs: where to find them; there may be more of them.
        class_map: our class -> their class, names or numbers, for classes whose names differ.
        takes_map: whether the user can give such a map; if so, messages advise it.

    Raises:
        DataError: a class is not found, two of ours are one of theirs, or nothing says which is which.
    """
    if class_map:
        return _match_by_map(ours, theirs, class_map)
    if ours.names is None and (theirs.names is None or ours.count != theirs.count):
        return _match_in_order(ours, theirs, takes_map)
    known = {name: number for number, name in enumerate(_names(theirs))}
    missing = [name for name in _names(ours) if name not in known]
    if not missing:
        return Match(
            numbers=tuple(known[name] for name in _names(ours)),
            note=_note(ours, theirs, "the classes of {named}, {names}, are its numbers"),
        )
    if ours.names is None or theirs.names is None:
        return _match_in_order(ours, theirs, takes_map)
    raise DataError(_not_found(ours, theirs, missing, takes_map))


def drop_unlikely_names(names: tuple[str, ...] | None, ours: Classes) -> tuple[str, ...] | None:
    """Names that were inferred from a model's number of classes; None if not one of them is among ours.

    A model of 1000 classes need not be ImageNet's.
    """
    return None if names and ours.names and not {*names} & {*ours.names} else names


def shorten_list(names: Sequence[str]) -> str:
    """The first few of some names, for messages."""
    more = f", ... ({len(names) - _MAX_SHOWN} more)" if len(names) > _MAX_SHOWN else ""
    return ", ".join(map(repr, names[:_MAX_SHOWN])) + more


def _match_in_order(ours: Classes, theirs: Classes, takes_map: bool) -> Match:
    """Match classes by number; raises DataError if the two sides differ in how many they have."""
    if ours.count != theirs.count:
        raise DataError(
            f"{ours.describe()}; {theirs.describe()}. Nothing says which is which: name the data's classes, one per "
            "line, with --class_names FILE (or imagenet-1k, if its labels are ImageNet's numbers)"
            f"{f', or map them with {_MAP}' if takes_map else ''}"
        )
    in_order = f"its classes 0 to {ours.count - 1} are assumed to be those of {{named}} in their order, {{names}}"
    return Match(numbers=tuple(range(ours.count)), note=_note(ours, theirs, in_order))


def _note(ours: Classes, theirs: Classes, assumed: str) -> str | None:
    """What is assumed if only one side has names; `assumed` has fields for its owner and its names."""
    if (ours.names is None) == (theirs.names is None):
        return None
    named, other = (ours, theirs) if ours.names else (theirs, ours)
    assumed = assumed.format(named=named.owner, names=shorten_list(named.names or ()))
    return f"{other.owner} states no class names: {assumed}"


def _match_by_map(ours: Classes, theirs: Classes, class_map: Mapping[str, str]) -> Match:
    """Classes that the map leaves out are matched by their own names; numbers alone must all be in the map."""
    unknown = [name for name in class_map if name not in set(_names(ours))]
    if unknown:
        raise DataError(f"--class_map names {shorten_list(unknown)}, which are no classes here. {ours.describe()}")
    if ours.names is None and (missing := [name for name in _names(ours) if name not in class_map]):
        raise DataError(
            f"{ours.describe()}: --class_map leaves out {shorten_list(missing)}; it wants a line for each of them"
        )
    # A number stands for the class of that number, unless it is itself the name of a class.
    known = {str(number): number for number in range(theirs.count)}
    known |= {name: number for number, name in enumerate(_names(theirs))}
    wanted = {name: str(class_map.get(name, name)) for name in _names(ours)}
    if missing := [name for name, other in wanted.items() if other not in known]:
        raise DataError(_not_found(ours, theirs, missing, takes_map=True))
    taken: dict[int, str] = {}
    for name, other in wanted.items():
        number = known[other]
        if number in taken:
            raise DataError(
                f"{ours.owner}: its classes {taken[number]!r} and {name!r} are one class of {theirs.owner}, "
                f"{_names(theirs)[number]!r}; map each to a class of its own"
            )
        taken[number] = name
    return Match(numbers=tuple(taken))


def _names(classes: Classes) -> Sequence[str]:
    """The names, or the numbers as text."""
    return classes.names or [str(number) for number in range(classes.count)]


def _not_found(ours: Classes, theirs: Classes, missing: Sequence[str], takes_map: bool) -> str:
    advice = f"map them: {_MAP}" if takes_map else "rename the folders, or the classes in dataset.json"
    return (
        f"{ours.owner}: {len(missing)} of {ours.count} classes are not among those of {theirs.owner}: "
        f"{shorten_list(missing)}. {theirs.describe()}. If they are the same classes under other names, {advice}"
    )
