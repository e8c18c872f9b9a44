"""Check that finished shards hold what a plan says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pld.errors import OutputError
from pld.images.reader import ImageReader
from pld.images.shards.plan import ShardPlan
from pld.images.sources.tar_index import NO_LABEL, read_tar


def check_finished(reader: ImageReader, plan: ShardPlan, out: Path, *, same_bytes: bool) -> None:
    """Compare keys, labels and, with `same_bytes`, the images' sizes where the reader knows them.

    Each sample must be there once; in which shard and where in it does not matter.

    Raises:
        OutputError: the shards hold anything else.
    """
    held = np.concatenate([read_tar(out / name).rows for name in plan.names])
    held = held[np.argsort(held["path"], kind="stable")]
    order = np.argsort(reader.keys, kind="stable")
    if difference := _difference(reader, order, held, same_bytes=same_bytes):
        raise OutputError(
            f"{out}: its {plan.split} shards hold other samples than those to write, or other bytes: {difference}; "
            "remove these shards, or name another folder"
        )


def _difference(reader: ImageReader, order: np.ndarray, held: np.ndarray, *, same_bytes: bool) -> str | None:
    """What differs between the reader's rows, in this order, and those of shards, both sorted by key."""
    keys = reader.keys[order]
    if not np.array_equal(keys, held["path"]):
        lacking, extra = np.setdiff1d(keys, held["path"]), np.setdiff1d(held["path"], keys)
        parts = [
            f"{len(found):,} {what}, the first {found[0].decode()}"
            for found, what in ((lacking, "are not in the shards"), (extra, "are in the shards alone"))
            if len(found)
        ]
        return ", ".join(parts) or f"{len(held):,} samples, wanted {len(keys):,}: some are there twice"
    labels = np.full(len(keys), NO_LABEL) if reader.labels is None else reader.labels[order]
    if len(rows := np.flatnonzero(held["label"] != labels)):
        first = rows[0]
        found, wanted = (None if label == NO_LABEL else int(label) for label in (held["label"][first], labels[first]))
        return f"{len(rows):,} other labels, the first of {keys[first].decode()}: {found}, wanted {wanted}"
    if same_bytes:
        for row, found in zip(order.tolist(), held["size"].tolist(), strict=True):
            if (wanted := reader.num_bytes(row)) not in (None, found):
                return f"{reader.where(row)} has {wanted:,} bytes, {found:,} in the shards"
    return None
