"""Randomness from identity: a generator that belongs to a text, and to nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Int64
from numpy import ndarray


def philox(identity: str) -> np.random.Philox:
    """Philox, a counter-based generator, keyed by a hash of `identity`: never by sums of seeds, which collide.

    Use its raw bits alone. NumPy keeps their stream; its distribution methods may change between versions.
    """
    digest = hashlib.blake2b(identity.encode(), digest_size=16).digest()
    return np.random.Philox(key=np.frombuffer(digest, "<u8"))


def permutation(n: int, identity: str) -> Int64[ndarray, "n"]:
    """A permutation of 0..n-1 that depends on `identity` alone."""
    return np.argsort(philox(identity).random_raw(n), kind="stable")


def choice(n: int, identity: str) -> int:
    """One of 0..n-1 that depends on `identity` alone; a generator of its own would cost ten times as much."""
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=16).digest(), "little") % n
