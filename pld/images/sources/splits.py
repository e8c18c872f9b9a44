"""Splits of a dataset (training, validation, test), recognised by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pld.errors import DataError

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_of(name: str) -> str | None:
    """The split that a folder's or a shard's name refers to, `train`, `val` or `test`; None if it refers to none.

    The word comes first or last, in any case: `Training`, `seg_train`, `val2017`, `imagenet1k-validation`.
    """
    words = re.findall(r"[a-z]+", name.lower())
    found = {_WORDS[word] for word in (*words[:1], *words[-1:]) if word in _WORDS}
    return found.pop() if len(found) == 1 else None


def shard_group(stem: str) -> str:
    """A shard's name without its number: `train` for `train-0012`, empty for `0012`."""
    return re.sub(r"[-_.]?\d+$", "", stem)


def choose_split(wanted: str, names: Sequence[str], where: str) -> str | None:
    """Choose the name of the wanted split: the same name, else a synonym; None if there is none.

    Raises:
        DataError: several names qualify.
    """
    if wanted in names:
        return wanted
    split = split_of(wanted)
    found = [name for name in names if name.lower() == wanted.lower() or (split and split_of(name) == split)]
    if len(found) > 1:
        raise DataError(
            f"{where}: {', '.join(sorted(found))} could all be the split {wanted!r}; name one with --split "
            "(--val_split for validation)"
        )
    return found[0] if found else None


def names_split(shard: str) -> bool:
    """Whether a shard's name says which split it belongs to: by a split's word, or by a name before a hyphen."""
    return "-" in shard or split_of(shard_group(shard.removesuffix(".tar"))) is not None
