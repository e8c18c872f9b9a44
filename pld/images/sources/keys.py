"""Keys of samples: the same in any subset, sharding, folder or tar.

A key is the path of the image in its dataset, without extension. A folder whose name the file's name repeats is left
out: ImageNet's `n01440764/n01440764_10026.JPEG` and the flat `n01440764_10026.jpg` of its shards are one image. Other
paths that differ only in leading folders can be matched only against a store's keys; see `match_keys`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Shaped
from numpy import ndarray

from pld.errors import DataError

NO_MATCH = -1


def sample_keys(paths: Sequence[bytes], where: Sequence[str]) -> Shaped[ndarray, "N"]:
    """The keys of samples.

    Args:
        paths: relative paths without extension, UTF-8.
        where: for each path, the file to name in an error.

    Returns:
        bytes [N], NumPy `S`.

    Raises:
        DataError: two samples have one key.
    """
    keys = np.array([sample_key(path) for path in paths], dtype=np.bytes_)
    first_of = np.unique(keys, return_index=True)[1]
    if len(first_of) < len(keys):
        repeat = int(np.setdiff1d(np.arange(len(keys)), first_of)[0])
        first = int(np.flatnonzero(keys == keys[repeat])[0])
        raise DataError(
            f"two samples with one key, {keys[repeat].decode(errors='replace')!r}: in {where[first]} and in "
            f"{where[repeat]} (a key leaves out a folder that the file's name begins with); rename one, or leave one "
            "of the shards out"
        )
    return keys


def sample_key(path: bytes) -> bytes:
    """The path, without its last folder if the file name begins with that folder's name and `_`."""
    folder, _, name = path.rpartition(b"/")
    parents, _, parent = folder.rpartition(b"/")
    if not parent or not name.startswith(parent + b"_"):
        return path
    return parents + b"/" + name if parents else name


def first_version_keys(paths: Sequence[bytes]) -> Shaped[ndarray, "N"]:
    """The keys that the first version of this package gave: file names if they are unique, else paths."""
    full = np.array(paths, dtype=np.bytes_)
    names = np.array([path.rpartition(b"/")[2] for path in paths], dtype=np.bytes_)
    _, inverse, counts = np.unique(names, return_inverse=True, return_counts=True)
    return np.where(counts[inverse] == 1, names, full)


def match_keys(keys: Shaped[ndarray, "N"], held: Shaped[ndarray, "M"]) -> Int64[ndarray, "N"]:
    """For each key, its index among the keys that a store holds, or NO_MATCH.

    Keys match if they are equal, or if one ends with `/` and the other, and no other key of the store has that file
    name: a store of `ant/1` has a tar's `1`, and one of `1` has the folder's `ant/1`; but a store of `ant/1` does not
    have `bee/1`, and one of `ant/1` and `bee/1` does not have `1`.

    Raises:
        DataError: two of the keys match the same key of the store; names them.
    """
    found = find_keys(keys, held)
    if (found == NO_MATCH).any():
        # Stores of the first version have whole paths if file names repeat.
        own = np.array([sample_key(key) for key in held.tolist()], dtype=np.bytes_)
        if len(np.unique(own)) == len(own):
            found = find_keys(keys, own)
    rest = np.flatnonzero(found == NO_MATCH)
    if len(rest):
        found[rest] = _match_names(keys[rest], held)
        _check_unique(keys, held, found)
    return found


class KeyMatcher:
    """`match_keys` for keys that come one by one, as from a stream."""

    def __init__(self, held: Shaped[ndarray, "M"]) -> None:
        self._held = held
        self._exact = _Sorted(held)
        self._seen = np.zeros(len(held), dtype=bool)
        self._matched: dict[int, bytes] = {}

    def match(self, key: bytes) -> int:
        """The index of a key among those held, or NO_MATCH.

        Raises:
            DataError: another key has matched the same one; names both.
        """
        found = self._exact.find(key)
        if found == NO_MATCH and self._own:
            found = self._own.find(key)
        if found == NO_MATCH:
            place = self._places.get(key.rpartition(b"/")[2], NO_MATCH)
            found = place if place != NO_MATCH and _is_end(key, self._held[place]) else NO_MATCH
        if found != NO_MATCH:
            self._remember(key, found)
        return found

    def _remember(self, key: bytes, found: int) -> None:
        """Raise DataError if another key has matched the same one held; the same keys cost a byte each."""
        held = self._held[found]
        is_same = key == held
        self._seen[found] |= is_same
        other = held if self._seen[found] and not is_same else self._matched.get(found, key)
        if other != key:
            raise _twice(other, key, held)
        if not is_same:
            self._matched[found] = key

    @functools.cached_property
    def _own(self) -> _Sorted | None:
        """The held keys as they are written now; None if these repeat."""
        own = np.array([sample_key(key) for key in self._held.tolist()], dtype=np.bytes_)
        return _Sorted(own) if len(np.unique(own)) == len(own) else None

    @functools.cached_property
    def _places(self) -> dict[bytes, int]:
        return _places_of_names(self._held)


class _Sorted:
    """Keys in order, to find one in."""

    def __init__(self, keys: Shaped[ndarray, "M"]) -> None:
        self._order = np.argsort(keys)
        self._keys = keys[self._order]

    def find(self, key: bytes) -> int:
        if len(key) > self._keys.itemsize:  # searchsorted would copy all keys to make them as long
            return NO_MATCH
        place = int(np.searchsorted(self._keys, np.bytes_(key)))
        return int(self._order[place]) if place < len(self._keys) and self._keys[place] == key else NO_MATCH


def find_keys(keys: Shaped[ndarray, "N"], held: Shaped[ndarray, "M"]) -> Int64[ndarray, "N"]:
    """For each key, the index of the same key among those held, or NO_MATCH."""
    order = np.argsort(held)
    places = np.searchsorted(held, keys, sorter=order)
    inside = places < len(held)
    found = np.full(len(keys), NO_MATCH, dtype=np.int64)
    candidates = order[places[inside]]
    found[inside] = np.where(held[candidates] == keys[inside], candidates, NO_MATCH)
    return found


def _match_names(keys: Shaped[ndarray, "N"], held: Shaped[ndarray, "M"]) -> Int64[ndarray, "N"]:
    """Match keys by file names that occur once among those held."""
    unique, found = _places_of_names(held), []
    for key in keys.tolist():
        place = unique.get(key.rpartition(b"/")[2], NO_MATCH)
        found.append(place if place != NO_MATCH and _is_end(key, held[place]) else NO_MATCH)
    return np.array(found, dtype=np.int64)


def _places_of_names(held: Shaped[ndarray, "M"]) -> dict[bytes, int]:
    """The index of each file name among the keys held, NO_MATCH for one that occurs twice."""
    unique: dict[bytes, int] = {}
    for place, key in enumerate(held.tolist()):
        name = key.rpartition(b"/")[2]
        unique[name] = NO_MATCH if name in unique else place
    return unique


def _is_end(first: bytes, second: bytes) -> bool:
    """Whether one path is the end of the other."""
    return (b"/" + first).endswith(b"/" + second) or (b"/" + second).endswith(b"/" + first)


def _check_unique(keys: Shaped[ndarray, "N"], held: Shaped[ndarray, "M"], found: Int64[ndarray, "N"]) -> None:
    """Raise DataError if two keys match the same key of the store."""
    rows = np.flatnonzero(found != NO_MATCH)
    places, counts = np.unique(found[rows], return_counts=True)
    if len(repeated := places[counts > 1]):
        first, second = rows[found[rows] == repeated[0]][:2]
        raise _twice(keys[first], keys[second], held[repeated[0]])


def _twice(first: bytes, second: bytes, held: bytes) -> DataError:
    return DataError(
        f"{first.decode()!r} and {second.decode()!r} both match the store's sample {held.decode()!r}, as they differ "
        "only in their folders; name the folder that was cached with --data"
    )
