"""The Zarr part: a Zarr group in an uncompressed zip. FORMAT.md has its layout."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Integer, Shaped

from pld.store.format.archives import reproducible_zip
from pld.store.format.arrays import ArraySpec
from pld.store.format.blocks import Block
from pld.store.format.canonical import canonical_json, sha256_hex
from pld.store.format.identity import CodecIdentity, Identity
from pld.store.format.quantise import EMPTY_TAIL, LABEL_AMONG_CLASSES, GridTopK, class_dtype
from pld.store.format.samples import key_bytes
from pld.store.format.schema import SAMPLE_ARRAYS, VIEW_ARRAYS, Chunk, EncodedPart, view_values

_BLOSC_MAX_ELEMENT_BYTES = 255


class ZarrPart:
    """See PartFormat."""

    suffix = ".zarr.zip"

    def columns(self, identity: Identity, block: Block, num_rows: int, key_bytes: int) -> Mapping[str, ArraySpec]:
        """See PartFormat."""
        return _columns(identity.codec, identity.teacher.num_classes, block.num_views, num_rows, key_bytes)

    def encode(
        self,
        identity: Identity,
        block: Block,
        keys: Shaped[np.ndarray, "N"],
        labels: Integer[np.ndarray, "N"],
        views: Sequence[GridTopK],
    ) -> EncodedPart:
        """See PartFormat."""
        specs = self.columns(identity, block, len(keys), keys.dtype.itemsize)
        metadata = {"zarr.json": _group_metadata(identity, block)}
        metadata |= {f"{name}/zarr.json": spec.metadata() for name, spec in specs.items()}
        if not len(keys):
            # Zarr wants no chunk of an array without elements.
            return EncodedPart(data=reproducible_zip(metadata)[0], samples=(), views=())
        members = _encode([specs[name] for name in SAMPLE_ARRAYS], (key_bytes(keys), labels), 0)
        for index, view in enumerate(views):
            members |= _encode([specs[name] for name in VIEW_ARRAYS], view_values(view), index)
        data, places = reproducible_zip(metadata | members)
        chunks = [
            Chunk(offset=places[name][0], num_bytes=len(chunk), sha256=sha256_hex(chunk))
            for name, chunk in members.items()
        ]
        first, each = len(SAMPLE_ARRAYS), len(VIEW_ARRAYS)
        by_view = tuple(tuple(chunks[start : start + each]) for start in range(first, len(chunks), each))
        return EncodedPart(data=data, samples=tuple(chunks[:first]), views=by_view)


# Most shards of a dataset have the same size, and a store has many.
@functools.lru_cache(maxsize=64)
def _columns(
    codec: CodecIdentity, num_classes: int, num_views: int, num_rows: int, key_bytes: int
) -> Mapping[str, ArraySpec]:
    classes, depths, tails = class_dtype(num_classes), np.dtype("<u2"), np.dtype("<i2")
    row = _element_bytes(2 * codec.k, 2)
    samples = {"sample": num_rows}
    views = {"view": num_views, "sample": num_rows}
    ranks, temperatures = views | {"rank": codec.k}, views | {"temperature": len(codec.temperatures)}
    nats = {"units": "nats", "scale_factor": -codec.grid}
    label = nats | {"_FillValue": LABEL_AMONG_CLASSES}
    scaled = {"units": "nats", "scale_factor": codec.grid, "_FillValue": EMPTY_TAIL}
    specs = [
        ArraySpec("keys", np.dtype("u1"), samples | {"byte": key_bytes}, "shuffle", _element_bytes(key_bytes, 1)),
        ArraySpec("labels", classes, samples, "shuffle", classes.itemsize),
        ArraySpec("classes", classes, ranks, "bitshuffle", classes.itemsize),
        ArraySpec("logprobs", depths, ranks, "bitshuffle", row, delta=True, attributes=nats),
        ArraySpec("label_logprob", depths, views, "shuffle", 2, attributes=label),
        ArraySpec("scaled_tail_logmass", tails, temperatures, "shuffle", 2, delta=True, attributes=scaled),
    ]
    return {spec.name: spec for spec in specs}


def _element_bytes(row_bytes: int, itemsize: int) -> int:
    """What blosc should take as one element: the row, so that each bit of each rank comes together, if it can be."""
    return row_bytes if row_bytes <= _BLOSC_MAX_ELEMENT_BYTES else itemsize


def _encode(specs: Sequence[ArraySpec], values: Sequence[np.ndarray], index: int) -> dict[str, bytes]:
    return {spec.chunk_name(index): spec.encode(held) for spec, held in zip(specs, values, strict=True)}


def _group_metadata(identity: Identity, block: Block) -> bytes:
    attributes = {
        "first_view": block.first,
        "temperatures": [float(t) for t in identity.codec.temperatures],
        "num_classes": identity.teacher.num_classes,
        "fingerprint": identity.fingerprint,
    }
    return canonical_json({"zarr_format": 3, "node_type": "group", "attributes": attributes})
