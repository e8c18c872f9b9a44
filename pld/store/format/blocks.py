"""Blocks of views and the parts in them: names and order, no I/O.

A block is a run of views. Blocks follow each other from view 0 without gaps and never overlap; a store grows by
adding blocks. A part is one image shard x one block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

ViewIndex = Annotated[int, Meta(ge=0, le=2**20)]


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Block:
    """Views first..last, both included."""

    first: ViewIndex
    last: ViewIndex

    @property
    def name(self) -> str:
        """As in file names: v000-009."""
        return f"v{self.first:03d}-{self.last:03d}"

    @property
    def parts_folder(self) -> str:
        """The folder of the block's parts in the store."""
        return f"parts/{self.name}"

    @property
    def num_views(self) -> int:
        """How many views it has."""
        return self.last - self.first + 1


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class PartId:
    """One image shard x one block: the unit of work, of writing and of commit."""

    block: Block
    shard: str

    @property
    def views(self) -> range:
        """The part's view indices."""
        return range(self.block.first, self.block.last + 1)

    @property
    def commit_name(self) -> str:
        """The name of the part's commit in the store."""
        return f"commits/{self.block.name}/{self.shard}.json"


def plan_blocks(blocks: Sequence[Block], num_views: int, block_views: int) -> list[Block]:
    """The store's blocks, and the new ones after them that bring it to at least num_views views."""
    planned = list(blocks)
    while (start := planned[-1].last + 1 if planned else 0) < num_views:
        planned.append(Block(first=start, last=min(start + block_views, num_views) - 1))
    return planned
