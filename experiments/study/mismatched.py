"""A cache that ignores the views, for comparison: the teacher on a fixed crop, the student on random ones.

No command makes such a store, because it is wrong. Here the fixed crop's logits are written under every view of the
store `all`, with a tag of the teacher that says so.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from experiments.study.design import VIEWS
from experiments.study.recipe import store_folder
from pld.provenance import provenance
from pld.signals import TopK
from pld.store import Shard, StoreWriter, open_store


def write_mismatched(fixed: Path, views: Path, out: Path) -> None:
    """Write the store.

    Args:
        fixed: the store of the teacher's logits on the fixed crop.
        views: a store of the same images whose views the student shall see.
        out: the store to write, or to go on with.
    """
    source, wanted = open_store(str(fixed)), open_store(str(views)).manifest
    teacher = dataclasses.replace(wanted.identity.teacher, tag="logits-of-a-fixed-crop")
    identity = dataclasses.replace(wanted.identity, teacher=teacher)
    shards = [Shard(name=shard.name, num_samples=shard.num_samples) for shard in wanted.shards]
    writer = StoreWriter.open(str(out), identity, shards, provenance())
    table = source.load_view(0)
    ends = np.cumsum([shard.num_samples for shard in shards])
    rows = {shard.name: np.arange(end - shard.num_samples, end) for shard, end in zip(shards, ends, strict=True)}
    for part in writer.missing_parts(VIEWS):
        mine = rows[part.shard]
        topk = table[mine]
        assert topk.labels is not None  # the study's images have labels
        # A store's probabilities of all classes do not sum to 1 after their rounding: `from_logits` makes them.
        dense = torch.empty_like(topk.logprobs).scatter_(1, topk.classes, topk.logprobs)
        signal = TopK.from_logits(dense, topk.labels, dense.shape[1], identity.codec.temperatures)
        writer.write_part(part, source.keys[mine], topk.labels.numpy(), [signal] * len(part.views))
    writer.seal()


if __name__ == "__main__":
    write_mismatched(store_folder("fixed"), store_folder("all"), store_folder("mismatched"))
