"""Copying a store, or some blocks of it, from one place to another: a plan of names, then a loop.

The order is a writer's (FORMAT.md, Writing), so what is at the destination is a store at every moment: a killed copy is
a store with fewer parts, and copying again goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pld.errors import ConfigError, CorruptStoreError, NotCachedError
from pld.prefetch import IO_THREADS
from pld.store.documents.commit import read_commit
from pld.store.documents.layout import Layout, read_layout
from pld.store.documents.manifest import MANIFEST_NAME, Manifest, read_manifest
from pld.store.documents.probes import read_probes
from pld.store.format.blocks import Block, PartId
from pld.store.format.canonical import sha256_hex
from pld.store.objects.storage import Storage
from pld.store.read.chunks import MEND
from pld.store.write.writer import StoreWriter, check_same_samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferPlan:
    """What is to be copied.

    Attributes:
        blocks: the blocks to claim at the destination, from view 0 on.
        parts: those to copy, block by block.
        num_held: of the wanted parts, those that are there already.
        num_missing: of the wanted parts, those that the source does not hold.
    """

    blocks: tuple[Block, ...]
    parts: tuple[PartId, ...]
    num_held: int
    num_missing: int


def plan_transfer(manifest: Manifest, source: Layout, held: Layout, views: range | None) -> TransferPlan:
    """What the destination lacks of the blocks that hold `views` (all, if None), without any I/O.

    Raises:
        ConfigError: the source has no such views, the destination's blocks end elsewhere, or views before these would
            be missing there: readers need all from the first on.
    """
    last = source.blocks[-1].last if source.blocks else -1
    wanted = views or range(last + 1)
    if views is not None and not 0 <= views.start < views.stop <= last + 1:
        raise ConfigError(f"--views {views.start}-{views.stop - 1}: the store has views 0-{last}")
    blocks = [block for block in source.blocks if block.first < wanted.stop]
    for theirs, ours in zip(held.blocks, blocks, strict=False):
        if theirs != ours:
            raise ConfigError(
                f"views {ours.first}-{ours.last} are one block here, {theirs.first}-{theirs.last} at the destination: "
                "parts cannot be cut; copy to another place"
            )
    shards = [shard.name for shard in manifest.shards]
    before = {PartId(block=b, shard=name) for b in blocks if b.last < wanted.start for name in shards}
    if (before & source.committed) - held.committed:
        raise ConfigError(
            f"--views {wanted.start}-{wanted.stop - 1}: the views before them are not at the destination, and readers "
            f"need all from view 0 on; give --views 0-{wanted.stop - 1}"
        )
    chosen = [PartId(block=b, shard=name) for b in blocks if b.last >= wanted.start for name in shards]
    return TransferPlan(
        blocks=tuple(blocks),
        parts=tuple(part for part in chosen if part in source.committed and part not in held.committed),
        num_held=sum(part in held.committed for part in chosen),
        num_missing=sum(part not in source.committed and part not in held.committed for part in chosen),
    )


def transfer(source: Storage, destination: Storage, views: range | None) -> tuple[TransferPlan, Iterator[int]]:
    """Prepare to copy what the destination lacks; each part is checked against its commit before it is written.

    Args:
        source: a store.
        destination: where to; nothing, or a store of the same fingerprint.
        views: copy the blocks that hold these; None for all.

    Returns:
        The plan, and an iterator that carries it out and gives the bytes of each part that has arrived.

    Raises:
        FingerprintMismatchError: the destination holds another store; shows both fingerprints and what differs.
        ConfigError: see `plan_transfer`; nothing is written then.
        CorruptStoreError: a part of the source is not what was committed; it is not copied.
        StoreError: a place could not be read or written.
    """
    manifest = read_manifest(source)
    if destination.exists(MANIFEST_NAME):
        read_manifest(destination).check_same(manifest, destination.url)
    held = read_layout(destination, manifest)
    plan = plan_transfer(manifest, read_layout(source, manifest), held, views)
    writer = StoreWriter.create(destination, manifest)
    writer.copy_blocks(plan.blocks)
    if probes := read_probes(source, manifest):
        writer.add_probes(probes)

    def carry_out() -> Iterator[int]:
        with ThreadPoolExecutor(IO_THREADS) as pool:
            yield from pool.map(lambda part: _copy(source, destination, writer, part, held), plan.parts)
        writer.seal()

    return plan, carry_out()


def _copy(source: Storage, destination: Storage, writer: StoreWriter, part: PartId, held: Layout) -> int:
    """Copy one part, then its commit, unless another writer has committed it by now; the part's bytes."""
    commit = read_commit(source, writer.manifest, part)
    where = f"{source.url}/{commit.part_name}"
    try:
        data = source.read(commit.part_name, commit.part_bytes)
    except NotCachedError:
        raise CorruptStoreError(f"{where}: a commit names this part and it is gone; {MEND}") from None
    if sha256_hex(data) != commit.part_sha256:
        raise CorruptStoreError(f"{where}: other bytes than were committed, so it was not copied; {MEND}")
    # A part that was there before tells whether both stores were made of the same images.
    other = next((there for there in held.committed if there.shard == part.shard), None)
    if other is not None:
        check_same_samples(read_commit(destination, writer.manifest, other), commit, destination.url)
    writer.put_part(data, commit)
    return commit.part_bytes
