"""Which arrays a part has: the one place that says their names, types, shapes and coding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pld.store.arrays import ArraySpec
from pld.store.grid import EMPTY_TAIL, LABEL_AMONG_CLASSES, class_dtype
from pld.store.identity import Identity

SAMPLE_ARRAYS = ("keys", "labels")
VIEW_ARRAYS = ("classes", "logprobs", "label_logprob", "scaled_tail_logmass")
# What reading one view of one part may take: 1500 samples with all of 21,841 classes, and no more for a stranger.
MAX_VIEW_BYTES = 2**27
_BLOSC_MAX_ELEMENT_BYTES = 255


def part_arrays(identity: Identity, num_views: int, num_rows: int, key_bytes: int) -> dict[str, ArraySpec]:
    """The arrays of a part, by name, in the order they are written.

    Args:
        identity: of the store.
        num_views: views in the part's block.
        num_rows: samples in the part.
        key_bytes: bytes of the longest key.
    """
    codec = identity.codec
    classes, depths, tails = class_dtype(identity.teacher.num_classes), np.dtype("<u2"), np.dtype("<i2")
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
        ArraySpec("logprobs", depths, ranks, "bitshuffle", _element_bytes(2 * codec.k, 2), delta=True, attributes=nats),
        ArraySpec("label_logprob", depths, views, "shuffle", 2, attributes=label),
        ArraySpec("scaled_tail_logmass", tails, temperatures, "shuffle", 2, delta=True, attributes=scaled),
    ]
    return {spec.name: spec for spec in specs}


def _row_bytes(itemsize: int, num_items: int) -> int:
    """Bytes of a row, or of its largest equal piece that blosc can take as one element (255 bytes)."""
    largest = min(num_items, 255 // itemsize)
    return next(num for num in range(largest, 0, -1) if num_items % num == 0) * itemsize


def view_bytes(arrays: Mapping[str, ArraySpec]) -> int:
    """Decoded bytes of one view, or of the samples where they are more; a part has at most MAX_VIEW_BYTES."""
    return max(sum(arrays[name].chunk_bytes for name in names) for names in (SAMPLE_ARRAYS, VIEW_ARRAYS))


def _element_bytes(row_bytes: int, itemsize: int) -> int:
    """What blosc should take as one element: the row, so that each bit of each rank comes together, if it can be."""
    return row_bytes if row_bytes <= _BLOSC_MAX_ELEMENT_BYTES else itemsize
