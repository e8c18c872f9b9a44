"""List a store's blocks, commits and seals by their names."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable

from pld.errors import CorruptStoreError
from pld.store.documents.manifest import Manifest
from pld.store.format.blocks import Block, PartId
from pld.store.format.canonical import dump_document
from pld.store.format.typed_json import read_document
from pld.store.objects.storage import Storage

_COMMIT = re.compile(r"commits/(?P<block>v\d{3,}-\d{3,})/(?P<shard>[^/]+)\.json")
_MAX_BLOCKS = 2**16


class CorruptBlockError(CorruptStoreError):
    """A block's file is not what was written; `name` is that of the file in the store."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """What there was when the store was listed: blocks from view 0 on, the parts committed, the blocks sealed."""

    blocks: tuple[Block, ...]
    committed: frozenset[PartId]
    sealed: frozenset[Block]

    def missing(self, block: Block, manifest: Manifest) -> list[PartId]:
        """The block's parts that are not committed, in shard order."""
        return [part for part in manifest.parts(block) if part not in self.committed]


def read_layout(storage: Storage, manifest: Manifest) -> Layout:
    """List a store. Commits of unknown shards or blocks are not trusted and left out.

    Raises:
        CorruptBlockError: a block's file is not what was written.
    """
    blocks = read_blocks(storage)
    by_name = {block.name: block for block in blocks}
    known = {shard.name for shard in manifest.shards}
    committed = {
        PartId(block=by_name[match["block"]], shard=match["shard"])
        for name in storage.list("commits")
        if (match := _COMMIT.fullmatch(name)) and match["block"] in by_name and match["shard"] in known
    }
    seals = set(storage.list("seals"))
    sealed = {block for block in blocks if seal_name(block) in seals}
    return Layout(blocks=tuple(blocks), committed=frozenset(committed), sealed=frozenset(sealed))


def read_blocks(storage: Storage, known: Iterable[Block] = ()) -> list[Block]:
    """The blocks claimed so far, from view 0 on; those `known` already, which never change, are not read again."""
    names = set(storage.list("blocks"))
    blocks = list(itertools.takewhile(lambda block: block_name(block.first) in names, known))
    while len(blocks) < _MAX_BLOCKS and (name := block_name(blocks[-1].last + 1 if blocks else 0)) in names:
        blocks.append(_read_block(storage, name))
    return blocks


def _read_block(storage: Storage, name: str) -> Block:
    where = f"{storage.url}/{name}"
    try:
        block = read_document(storage, name, Block)
    except CorruptStoreError as error:
        raise CorruptBlockError(str(error), name) from None
    if block_name(block.first) != name or block.last < block.first:
        raise CorruptBlockError(f"{where}: found the views {block.name}: it was put in another place", name)
    return block


def claim_block(storage: Storage, block: Block) -> bool:
    """Fix where the next block ends, unless another writer did; whether this call fixed it.

    A file named by the block's first view, created exclusively, is what keeps the blocks of two writers who want
    different numbers of views from overlapping.
    """
    return storage.put_exclusive(block_name(block.first), dump_document(block))


def seal_name(block: Block) -> str:
    """The name of a block's seal in the store."""
    return f"seals/{block.name}.json"


def block_name(first: int) -> str:
    """The name of the file of the block that begins at view `first`."""
    return f"blocks/v{first:03d}.json"
