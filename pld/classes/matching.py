"""Match the classes of two lists by name.

A label is only a number; the names say which class it is. They come from a file, dataset.json, folder names or a
model's config.json. Without names, classes are known by number only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from pld.errors import DataError

_MAX_SHOWN = 5
_MAP = "--class_map FILE, a line each: the data's class, a tab, the teacher's class or its number"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classes:
    """The classes of a dataset, a teacher or a store.

    Attributes:
        names: in the order of their numbers; None where only numbers are known.
        count: how many; of labels without names, the highest plus one.
        whose: for messages.
    """

    names: tuple[str, ...] | None
    count: int
    whose: str

    def shown(self) -> str:
        """What there is, for a message."""
        count = f"{self.count} class{'es' if self.count != 1 else ''}"
        return (
            f"{self.whose}: {count}, {shorten_list(self.names)}"
            if self.names
            else f"{self.whose}: {count} without names"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match:
    """Where each class of one list is in another.

    Attributes:
        numbers: for each of our classes the number of the same class in their list; all different.
        note: what had to be assumed; None where the names agree.
    """

    numbers: tuple[int, ...]
    note: str | None = None


def match_classes(
    ours: Classes, theirs: Classes, class_map: Mapping[str, str] | None = None, *, takes_map: bool = False
) -> Match:
    """Find each of our classes among theirs: by `class_map`, else by its name.

    Where one side has numbers alone, names that are numbers, as ImageNetV2's folders 0 to 999 have them, are those
    numbers; other names can only be taken in their order, which is done where both sides have as many classes.

    Args:
        ours: the classes to find.
        theirs: where to find them; they may have more.
        class_map: our class -> their class, names or numbers, for those whose names differ.
        takes_map: whether the user could give such a map, which messages advise then.

    Raises:
        DataError: a class is not found, two of ours are one of theirs, or nothing tells which is which.
    """
    if class_map:
        return _by_map(ours, theirs, class_map)
    if ours.names is None and (theirs.names is None or ours.count != theirs.count):
        return _in_order(ours, theirs, takes_map)
    known = {name: number for number, name in enumerate(_names(theirs))}
    lacking = [name for name in _names(ours) if name not in known]
    if not lacking:
        return Match(numbers=tuple(known[name] for name in _names(ours)), note=_note_on_numbers(ours, theirs))
    if ours.names is None or theirs.names is None:
        return _in_order(ours, theirs, takes_map)
    raise DataError(_not_found(ours, theirs, lacking, takes_map))


def shorten_list(names: Sequence[str]) -> str:
    """The first few of some names, for a message."""
    more = f", ... ({len(names) - _MAX_SHOWN} more)" if len(names) > _MAX_SHOWN else ""
    return ", ".join(map(repr, names[:_MAX_SHOWN])) + more


def _in_order(ours: Classes, theirs: Classes, takes_map: bool) -> Match:
    """Numbers as they are, where there are as many on both sides."""
    if ours.count != theirs.count:
        raise DataError(
            f"{ours.shown()}; {theirs.shown()}. Nothing says which is which: name the data's classes, a line each, "
            f"with --class_names FILE (or imagenet-1k, where its labels are ImageNet's numbers)"
            f"{f', or say it with {_MAP}' if takes_map else ''}"
        )
    if ours.names is None and theirs.names is None:
        return Match(numbers=tuple(range(ours.count)))
    named, other = (ours, theirs) if ours.names else (theirs, ours)
    note = (
        f"{other.whose} states no class names: its classes 0 to {other.count - 1} are taken for those of {named.whose} "
        f"in their order, {shorten_list(named.names or ())}"
    )
    return Match(numbers=tuple(range(ours.count)), note=note)


def _note_on_numbers(ours: Classes, theirs: Classes) -> str | None:
    """What is assumed where the names of one side are taken for the numbers of the other."""
    if None not in (ours.names, theirs.names):
        return None
    named, other = (ours, theirs) if ours.names else (theirs, ours)
    names = shorten_list(named.names or ())
    return f"{other.whose} states no class names: the classes of {named.whose}, {names}, are its numbers"


def _by_map(ours: Classes, theirs: Classes, class_map: Mapping[str, str]) -> Match:
    """What a map leaves out goes by its own name; of classes without names it leaves out none."""
    unknown = [name for name in class_map if name not in set(_names(ours))]
    if unknown:
        raise DataError(f"--class_map names {shorten_list(unknown)}, which are no classes here. {ours.shown()}")
    if ours.names is None and (missing := [name for name in _names(ours) if name not in class_map]):
        raise DataError(
            f"{ours.shown()}: --class_map leaves out {shorten_list(missing)}; it wants a line for each of them"
        )
    # Numbers will do for names, but a name that is a number is that name.
    known = {str(number): number for number in range(theirs.count)}
    known |= {name: number for number, name in enumerate(_names(theirs))}
    wanted = {name: str(class_map.get(name, name)) for name in _names(ours)}
    if lacking := [name for name, other in wanted.items() if other not in known]:
        raise DataError(_not_found(ours, theirs, lacking, takes_map=True))
    first: dict[int, str] = {}
    for name, other in wanted.items():
        number = known[other]
        if number in first:
            raise DataError(
                f"{ours.whose}: its classes {first[number]!r} and {name!r} are one class of {theirs.whose}, "
                f"{_names(theirs)[number]!r}; give each one of its own"
            )
        first[number] = name
    return Match(numbers=tuple(first))


def _names(classes: Classes) -> Sequence[str]:
    """The names, or the numbers as text."""
    return classes.names or [str(number) for number in range(classes.count)]


def _not_found(ours: Classes, theirs: Classes, lacking: Sequence[str], takes_map: bool) -> str:
    advice = f"say which is which: {_MAP}" if takes_map else "rename the folders, or the classes in dataset.json"
    return (
        f"{ours.whose}: {len(lacking)} of {ours.count} classes are not among those of {theirs.whose}: "
        f"{shorten_list(lacking)}. {theirs.shown()}. Where they are the same classes under other names, {advice}"
    )
