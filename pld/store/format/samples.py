"""Keys and labels of a part or a store: packing, digests, and vectorised lookup."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Integer, Shaped, UInt8

from pld.errors import DataError, NotCachedError

MAX_KEY_BYTES = 2**12
# Text, or UTF-8 bytes in a fixed-width 'S' array.
Keys = Sequence[str] | Shaped[np.ndarray, "N"]


def key_array(keys: Keys) -> Shaped[np.ndarray, "N"]:
    """Keys as an 'S' array just wide enough for their UTF-8 bytes.

    Raises:
        DataError: a key is empty, longer than MAX_KEY_BYTES, has control characters, or is not text.
    """
    try:
        listed: Sequence[str | bytes] = keys.tolist() if isinstance(keys, np.ndarray) else keys
        encoded = [key if isinstance(key, bytes) else key.encode() for key in listed]
        for key in encoded:
            if not key.decode() or len(key) > MAX_KEY_BYTES or min(key) < ord(" "):
                raise DataError(f"key {key[:99]!r}: empty, too long or with control characters, wanted a plain name")
    except UnicodeError as error:
        raise DataError(f"keys: found one that is not UTF-8 text ({error}); rename the file") from None
    return np.array(encoded, dtype=np.bytes_)


def key_bytes(keys: Shaped[np.ndarray, "N"]) -> UInt8[np.ndarray, "N L"]:
    """Keys as a matrix of bytes, zeros on the right."""
    return keys.view(np.uint8).reshape(len(keys), keys.dtype.itemsize)


def matrix_keys(matrix: UInt8[np.ndarray, "N L"]) -> Shaped[np.ndarray, "N"]:
    """The keys that `key_bytes` laid out."""
    return np.ascontiguousarray(matrix).view(f"S{matrix.shape[1]}")[:, 0]


def samples_digest(keys: Shaped[np.ndarray, "N"], labels: Integer[np.ndarray, "N"] | None) -> str:
    """sha256 over the pairs of key and label in the order given, over the keys alone without labels."""
    digest = hashlib.sha256()
    if labels is None:
        for key in keys.tolist():
            digest.update(b"%s\n" % key)
        return digest.hexdigest()
    for key, label in zip(keys.tolist(), labels.tolist(), strict=True):
        digest.update(b"%s\t%d\n" % (key, label))
    return digest.hexdigest()


class KeyIndex:
    """Row numbers of keys, by binary search in the sorted keys."""

    def __init__(self, keys: Shaped[np.ndarray, "N"], where: str) -> None:
        self._order = np.argsort(keys)
        self._sorted = keys[self._order]
        self._where = where

    def rows(self, keys: Keys) -> Int64[np.ndarray, "M"]:
        """The rows of keys.

        Raises:
            NotCachedError: names the first keys that are not there, and how many there are of them.
        """
        wanted = keys if isinstance(keys, np.ndarray) and keys.dtype.kind == "S" else key_array(keys)
        positions = np.searchsorted(self._sorted, wanted)
        found = positions < len(self._sorted)
        found[found] = self._sorted[positions[found]] == wanted[found]
        if not found.all():
            missing = [key.decode(errors="replace") for key in wanted[~found][:3].tolist()]
            raise NotCachedError(
                f"{self._where}: {int((~found).sum())} of {len(wanted)} samples are not in the store, the first: "
                f"{', '.join(missing)}; cache this dataset, or train on the one that was cached"
            )
        return self._order[positions].astype(np.int64)
