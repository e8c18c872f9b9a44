"""The key of a sample: its path, the same in any subset, sharding, folder or tar.

A key is the path of the image in its dataset, without extension. A folder that the file's name repeats is left out:
ImageNet's `n01440764/n01440764_10026.JPEG` and the flat `n01440764_10026.jpg` of its shards are one image. Other paths
that differ only in leading folders are matched where it is known what else there is; see `match_keys`.
"""

from __future__ import annotations

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
        where: for each, the file to name in an error.

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
    """The file names where they are unique, else the paths: what keys were before they were a sample's own."""
    full = np.array(paths, dtype=np.bytes_)
    names = np.array([path.rpartition(b"/")[2] for path in paths], dtype=np.bytes_)
    _, inverse, counts = np.unique(names, return_inverse=True, return_counts=True)
    return np.where(counts[inverse] == 1, names, full)


def match_keys(keys: Shaped[ndarray, "N"], held: Shaped[ndarray, "M"]) -> Int64[ndarray, "N"]:
    """For each key its place among those that a store holds, or NO_MATCH.

    Keys match if they are equal, or if one is the end of the other after a `/` and no other key that the store holds
    has that file name: a store of `ant/1` has a tar's `1`, and one of `1` has the folder's `ant/1`; but a store of
    `ant/1` has no `bee/1`, and one of `ant/1` and `bee/1` has no `1`.

    Raises:
        DataError: two of the keys match one that is held; names them.
    """
    found = find_keys(keys, held)
    if (found == NO_MATCH).any():
        # Stores of the version before have whole paths where file names repeat.
        own = np.array([sample_key(key) for key in held.tolist()], dtype=np.bytes_)
        if len(np.unique(own)) == len(own):
            found = find_keys(keys, own)
    open_places = np.flatnonzero(found == NO_MATCH)
    if len(open_places):
        by_name = _by_name(keys[open_places], held)
        _check_one_each(keys, held, found, open_places, by_name)
        found[open_places] = by_name
    return found


def find_keys(keys: Shaped[ndarray, "N"], held: Shaped[ndarray, "M"]) -> Int64[ndarray, "N"]:
    """For each key its place among those that are held, where it is there as it is; else NO_MATCH."""
    order = np.argsort(held)
    places = np.searchsorted(held, keys, sorter=order)
    inside = places < len(held)
    found = np.full(len(keys), NO_MATCH, dtype=np.int64)
    candidates = order[places[inside]]
    found[inside] = np.where(held[candidates] == keys[inside], candidates, NO_MATCH)
    return found


def _by_name(keys: Shaped[ndarray, "N"], held: Shaped[ndarray, "M"]) -> Int64[ndarray, "N"]:
    unique: dict[bytes, int] = {}
    for place, key in enumerate(held.tolist()):
        name = key.rpartition(b"/")[2]
        unique[name] = NO_MATCH if name in unique else place
    found = []
    for key in keys.tolist():
        place = unique.get(key.rpartition(b"/")[2], NO_MATCH)
        found.append(place if place != NO_MATCH and _is_end(key, held[place]) else NO_MATCH)
    return np.array(found, dtype=np.int64)


def _is_end(first: bytes, second: bytes) -> bool:
    """Whether one path is the end of the other."""
    return (b"/" + first).endswith(b"/" + second) or (b"/" + second).endswith(b"/" + first)


def _check_one_each(
    keys: Shaped[ndarray, "N"],
    held: Shaped[ndarray, "M"],
    exact: Int64[ndarray, "N"],
    open_places: Int64[ndarray, "O"],
    by_name: Int64[ndarray, "O"],
) -> None:
    taken = {int(place): int(row) for row, place in enumerate(exact) if place != NO_MATCH}
    for row, place in zip(open_places.tolist(), by_name.tolist(), strict=True):
        if place == NO_MATCH:
            continue
        if place in taken:
            raise DataError(
                f"{keys[taken[place]].decode()!r} and {keys[row].decode()!r} both match the store's sample "
                f"{held[place].decode()!r}, as they differ only in their folders; name the folder that was cached with "
                "--data"
            )
        taken[place] = row
