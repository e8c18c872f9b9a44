"""Plan the shards of a dataset: the order in which its rows are read, and the shard that each goes to. No I/O."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from pld.images.reader import ImageReader
from pld.randomness import permutation
from pld.views import policy_to_json


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ShardPlan:
    """What is written where.

    Attributes:
        split: what the shards are named after.
        names: the shards' file names.
        units: the rows of each unit, in the order in which they are read.
        shards: int64 [N], the shard that the i-th row read goes to.
        digest: SHA-256, hexadecimal, of all that the shards' bytes depend on, but for the images' own.
    """

    split: str
    names: tuple[str, ...]
    units: tuple[Int64[ndarray, "_"], ...]
    shards: Int64[ndarray, "N"]
    digest: str

    @property
    def rows(self) -> Int64[ndarray, "N"]:
        """All rows in the order in which they are read."""
        return np.concatenate(self.units)

    def units_from(self, done: int) -> Iterator[Int64[ndarray, "_"]]:
        """The units without the first `done` rows."""
        for rows in self.units:
            if len(rows) > done:
                yield rows[done:]
            done = max(0, done - len(rows))


def plan_shards(reader: ImageReader, split: str, shard_samples: int, settings: object) -> ShardPlan:
    """Plan shards of `shard_samples` rows, the last one with the rest.

    Units are visited in a random order and each is read from its start to its end, as disks like it; each row goes to a
    random shard. So a shard holds rows of all units, and neighbours in it are mostly of different ones, even if a unit
    has a single class. All of it depends on the split's name and the units' sizes alone.

    Args:
        reader: the samples.
        split: what the shards are named after.
        shard_samples: at least 1.
        settings: how images are re-encoded; anything that JSON can hold.
    """
    num = len(reader.keys)
    num_shards = -(-num // shard_samples)
    digits = max(4, len(str(num_shards - 1)))
    names = tuple(f"{split}-{number:0{digits}d}.tar" for number in range(num_shards))
    place = permutation(num, f"shards/{split}") // shard_samples
    starts = np.concatenate([[0], np.cumsum(reader.shard_sizes, dtype=np.int64)])
    visits = permutation(len(reader.shard_sizes), f"shards/{split}/units").tolist()
    digest = hashlib.sha256()
    described = [split, shard_samples, reader.class_names, policy_to_json(reader.policy), settings]
    digest.update(json.dumps(described).encode())
    sizes = np.array(reader.shard_sizes, dtype=np.int64)
    for column in (reader.keys, sizes, *([] if reader.labels is None else [reader.labels])):
        digest.update(f"{column.dtype.str}{column.shape}".encode())
        digest.update(column.tobytes())
    return ShardPlan(
        split=split,
        names=names,
        units=tuple(np.arange(starts[unit], starts[unit + 1]) for unit in visits if reader.shard_sizes[unit]),
        shards=place,
        digest=digest.hexdigest(),
    )
