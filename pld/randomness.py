"""Random generators that are seeded by a text, such as a sample's key."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
from jaxtyping import Int64, Shaped, UInt64
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


def hash_texts(texts: Shaped[ndarray, "N"]) -> UInt64[ndarray, "N"]:
    """A 64-bit hash of each text (bytes, NumPy `S`), for `mixed_bits`."""
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts.tolist())
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def mixed_bits(hashes: UInt64[ndarray, "N"], identity: str, number: int) -> UInt64[ndarray, "N"]:
    """64 random bits for each hash, number 0, 1, ... of those that (hash, identity) have; all rows at once.

    Each is SplitMix64's finaliser (Steele et al. 2014) of a counter that begins at the finalised hash.
    """
    first, second = _key(identity)
    start = _finalise(hashes ^ first)
    return _finalise(start + np.uint64((number + 1) * _GOLDEN % 2**64) ^ second)


_GOLDEN = 0x9E3779B97F4A7C15


def _finalise(x: UInt64[ndarray, "N"]) -> UInt64[ndarray, "N"]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    finalised: UInt64[ndarray, "N"] = x ^ (x >> np.uint64(31))
    return finalised
