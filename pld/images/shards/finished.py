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

    Raises:
        OutputError: a shard holds anything else.
    """
    rows = plan.rows
    for shard, name in enumerate(plan.names):
        wanted = rows[plan.shards == shard]
        index = read_tar(out / name).rows
        same = np.array_equal(index["path"], reader.keys[wanted])
        labels = np.full(len(wanted), NO_LABEL) if reader.labels is None else reader.labels[wanted]
        same = same and np.array_equal(index["label"], labels)
        if same and same_bytes:
            sizes = (reader.num_bytes(row) for row in wanted.tolist())
            same = all(size in (None, held) for size, held in zip(sizes, index["size"].tolist(), strict=True))
        if not same:
            raise OutputError(
                f"{out / name}: holds other samples than those to write, or other bytes; remove it and the split's "
                "other shards, or name another folder"
            )
