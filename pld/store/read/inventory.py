"""Which parts of a store are there, and what its bytes are spent on: from names and commits alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from pld.store.documents.commit import Commit, read_commit
from pld.store.documents.layout import read_layout
from pld.store.documents.manifest import read_manifest
from pld.store.format.blocks import Block, PartId
from pld.store.format.schema import SAMPLE_ARRAYS, VIEW_ARRAYS
from pld.store.objects.open import open_storage

# Enough to hide an object store's latency.
_THREADS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inventory:
    """What there is of a store.

    Attributes:
        shards: the dataset's image shards, in their order.
        blocks: the store's blocks of views, from view 0 on.
        committed: the parts that are there.
        sealed: the blocks that were complete once: what they lack is lost.
        array_bytes: bytes of each array over all parts, with `container` for what is around them and `commits`.
    """

    shards: tuple[str, ...]
    blocks: tuple[Block, ...]
    committed: frozenset[PartId]
    sealed: frozenset[Block]
    array_bytes: Mapping[str, int]

    def count_missing(self, *, lost: bool) -> int:
        """How many parts of sealed blocks are lost, or how many of the others are not cached yet."""
        blocks = [block for block in self.blocks if (block in self.sealed) == lost]
        parts = {PartId(block=block, shard=shard) for block in blocks for shard in self.shards}
        return len(parts - self.committed)


def take_inventory(url: str) -> Inventory:
    """Look a store over; raises as `open_store` does, but not for parts that are missing."""
    storage = open_storage(url)
    manifest = read_manifest(storage)
    layout = read_layout(storage, manifest)
    with ThreadPoolExecutor(_THREADS) as pool:
        spent = pool.map(lambda part: _bytes(read_commit(storage, manifest, part)), sorted(layout.committed))
        total = sum(spent, Counter[str]())
    return Inventory(
        shards=tuple(shard.name for shard in manifest.shards),
        blocks=layout.blocks,
        committed=layout.committed,
        sealed=layout.sealed,
        array_bytes=total,
    )


def _bytes(commit: Commit) -> Counter[str]:
    spent = Counter[str]()
    for names, chunks in ((SAMPLE_ARRAYS, commit.samples), *((VIEW_ARRAYS, view) for view in commit.views)):
        for name, chunk in zip(names, chunks, strict=False):  # a part without rows has no chunks
            spent[name] += chunk.num_bytes
    spent["container"] = commit.part_bytes - spent.total()
    spent["commits"] = len(commit.dump())
    return spent
