"""The Zarr part: a Zarr group in an uncompressed zip. FORMAT.md has its layout."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal

import numpy as np

from pld.store.format.archives import reproducible_zip
from pld.store.format.arrays import ArraySpec
from pld.store.format.blocks import Block
from pld.store.format.canonical import canonical_json
from pld.store.format.identity import CodecIdentity, Identity
from pld.store.format.quantise import EMPTY_TAIL, LABEL_AMONG_CLASSES, class_dtype, count_dtype
from pld.store.format.schema import Chunk, PartRows, only_held, part_attributes

_BLOSC_MAX_ELEMENT_BYTES = 255


class ZarrPart:
    """The format "zarr"."""

    suffix = ".zarr.zip"

    def columns(self, identity: Identity, block: Block, num_rows: int, key_bytes: int) -> Mapping[str, ArraySpec]:
        """The arrays of a part of num_rows samples, by name; key_bytes is the length of the longest key."""
        specs = _columns(identity.codec, identity.teacher.num_classes, block.num_views, num_rows, key_bytes)
        return only_held(specs, identity)

    def encode(self, identity: Identity, block: Block, rows: PartRows) -> tuple[bytes, list[tuple[Chunk, ...]]]:
        """The part's bytes, and its chunks in the order of `PartRows.arrays`."""
        specs = self.columns(identity, block, len(rows.keys), rows.keys.dtype.itemsize)
        group = {"zarr_format": 3, "node_type": "group", "attributes": part_attributes(identity, block)}
        members = {"zarr.json": canonical_json(group)}
        members |= {f"{name}/zarr.json": spec.metadata() for name, spec in specs.items()}
        # The samples have the number of the first view, as they have no others.
        chunks = [
            {specs[name].chunk_name(max(0, index)): specs[name].encode(values) for name, values in arrays.items()}
            for index, arrays in enumerate(rows.arrays(), -1)
        ]
        for encoded in chunks:
            members |= encoded
        data, places = reproducible_zip(members)
        return data, [tuple(Chunk.of(data, *places[name]) for name in encoded) for encoded in chunks]


# Most shards of a dataset have the same size, and a store has many.
@functools.lru_cache(maxsize=64)
def _columns(
    codec: CodecIdentity, num_classes: int, num_views: int, num_rows: int, key_bytes: int
) -> Mapping[str, ArraySpec]:
    classes, depths, tails = class_dtype(num_classes), np.dtype("<u2"), np.dtype("<i2")
    # Rows that list fewer than k classes are runs of padding, which whole bytes show best.
    shuffle: Literal["shuffle", "bitshuffle"] = "bitshuffle" if codec.error is None else "shuffle"
    row = _element_bytes(2 * codec.k, 2) if codec.error is None else 2
    samples = {"sample": num_rows}
    views = {"view": num_views, "sample": num_rows}
    ranks, temperatures = views | {"rank": codec.k}, views | {"temperature": len(codec.temperatures)}
    nats = {"units": "nats", "scale_factor": -codec.grid}
    label = nats | {"_FillValue": LABEL_AMONG_CLASSES}
    threshold = {"units": "nats", "scale_factor": codec.grid}
    drawn = views | {"drawn": codec.tail_samples}
    scaled = {"units": "nats", "scale_factor": codec.grid, "_FillValue": EMPTY_TAIL}
    specs = [
        ArraySpec("keys", np.dtype("u1"), samples | {"byte": key_bytes}, "shuffle", _element_bytes(key_bytes, 1)),
        ArraySpec("labels", classes, samples, "shuffle", classes.itemsize),
        ArraySpec("classes", classes, ranks, shuffle, classes.itemsize),
        ArraySpec("logprobs", depths, ranks, shuffle, row, delta=True, attributes=nats),
        ArraySpec("label_logprob", depths, views, "shuffle", 2, attributes=label),
        ArraySpec("scaled_tail_logmass", tails, temperatures, "shuffle", 2, delta=True, attributes=scaled),
        ArraySpec("tail_classes", classes, drawn, "shuffle", classes.itemsize, delta=True),
        ArraySpec("tail_logprobs", depths, drawn, "shuffle", 2, attributes=nats),
        ArraySpec("tail_threshold", np.dtype("<i4"), views, "shuffle", 4, attributes=threshold),
        ArraySpec("counts", count_dtype(codec.k), views, "shuffle", count_dtype(codec.k).itemsize),
    ]
    return {spec.name: spec for spec in specs}


def _element_bytes(row_bytes: int, itemsize: int) -> int:
    """What blosc should take as one element: the row, so that each bit of each rank comes together, if it can be."""
    return row_bytes if row_bytes <= _BLOSC_MAX_ELEMENT_BYTES else itemsize
