"""Random generators that are seeded by a text, such as a sample's key."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

_of_this_thread = threading.local()


def philox(identity: str) -> np.random.Philox:
    """Philox, a counter-based generator, keyed by a hash of `identity`: never by sums of seeds, which collide.

    Use its raw bits alone. NumPy keeps their stream; its distribution methods may change between versions.
    """
    return np.random.Philox(key=_key(identity))


def raw_bits(identity: str, first: int, num: int) -> list[int]:
    """Numbers first..first+num-1 of `philox(identity)`'s raw 64-bit stream.

    In a fifth of the time: each thread has one generator, to which other keys are given.
    """
    try:
        generator, state = _of_this_thread.generator
    except AttributeError:
        generator = np.random.Philox(key=0)
        # As it is before the first number is asked for: at counter 0, with nothing in its buffer.
        state = generator.state
        _of_this_thread.generator = generator, state
    state["state"]["key"] = _key(identity)
    generator.state = state
    bits: list[int] = generator.random_raw(first + num).tolist()[first:]
    return bits


def _key(identity: str) -> ndarray:
    return np.frombuffer(hashlib.blake2b(identity.encode(), digest_size=16).digest(), "<u8")


def permutation(n: int, identity: str) -> Int64[ndarray, "n"]:
    """A permutation of 0..n-1 that depends on `identity` alone."""
    return np.argsort(philox(identity).random_raw(n), kind="stable")


def choice(n: int, identity: str) -> int:
    """One of 0..n-1 that depends on `identity` alone; a generator of its own would cost ten times as much."""
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=16).digest(), "little") % n
