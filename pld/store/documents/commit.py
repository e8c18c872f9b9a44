"""A commit: the small file, created last and exclusively, that makes a part trusted, and says all about it."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from pld.errors import CorruptStoreError
from pld.store.documents.manifest import Manifest
from pld.store.format.blocks import Block, PartId, ViewIndex
from pld.store.format.canonical import dump_document, sha256_hex, shown
from pld.store.format.samples import MAX_KEY_BYTES, samples_digest
from pld.store.format.schema import MAX_VIEW_BYTES, Chunk, PartBytes, PartRows
from pld.store.format.stats import PartStats
from pld.store.format.typed_json import SafeName, Sha256, read_document
from pld.store.objects.storage import Storage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commit:
    """What a commit says.

    Attributes:
        shard, first_view, last_view: the image shard and the block of views.
        fingerprint: of the store it belongs to.
        part: the part's file name inside the block's folder; it carries the content's hash.
        part_bytes, part_sha256: of the whole part.
        num_samples: rows in the part, skipped samples not among them.
        skipped: keys of the shard's samples that have no row, in shard order.
        samples_sha256: digest of the rows' keys and labels in row order; the same in all blocks of a shard.
        key_bytes: length of the longest key.
        samples: the chunks of the manifest's `sample_arrays`, in their order; none in a part without rows.
        views: for each view the chunks of its `view_arrays`, in their order; none in a part without rows.
        stats: sums over the part.
    """

    shard: SafeName
    first_view: ViewIndex
    last_view: ViewIndex
    fingerprint: Sha256
    part: SafeName
    part_bytes: PartBytes
    part_sha256: Sha256
    num_samples: Annotated[int, Meta(ge=0, le=2**27)]
    skipped: tuple[str, ...]
    samples_sha256: Sha256
    key_bytes: Annotated[int, Meta(ge=1, le=MAX_KEY_BYTES)]
    samples: tuple[Chunk, ...]
    views: tuple[tuple[Chunk, ...], ...]
    stats: PartStats

    @functools.cached_property
    def part_id(self) -> PartId:
        """The part that it makes trusted."""
        return PartId(block=Block(first=self.first_view, last=self.last_view), shard=self.shard)

    @property
    def part_name(self) -> str:
        """The part's name in the store."""
        return f"{self.part_id.block.parts_folder}/{self.part}"

    def dump(self) -> bytes:
        """The commit's bytes."""
        return dump_document(self)

    def array_bytes(self, manifest: Manifest) -> Counter[str]:
        """Bytes of each of the part's arrays, with `container` for what is around them and `commits` for itself."""
        spent = Counter[str]()
        of_view = manifest.view_arrays
        for names, chunks in ((manifest.sample_arrays, self.samples), *((of_view, view) for view in self.views)):
            for name, chunk in zip(names, chunks, strict=False):  # a part without rows has no chunks
                spent[name] += chunk.num_bytes
        spent.update(container=self.part_bytes - spent.total(), commits=len(self.dump()))
        return spent

    def check_fits(self, manifest: Manifest, part_id: PartId, where: str) -> None:
        """Raise CorruptStoreError unless this is the commit of that part in that store, and its counts agree."""
        identity = manifest.identity
        shard = manifest.shards_by_name[part_id.shard]
        each = len(manifest.view_arrays)
        chunks = [len(manifest.sample_arrays), *[each] * part_id.block.num_views] if self.num_samples else [0]
        agreements = {
            "part": (self.part_id, part_id),
            "fingerprint": (self.fingerprint, identity.fingerprint),
            "file name": (self.part, part_file_name(part_id.shard, self.part_sha256, manifest)),
            "samples": (self.num_samples + len(self.skipped), shard.num_samples),
            "chunks": ([len(view) for view in (self.samples, *self.views)], chunks),
            "whether correct choices are counted": (self.stats.num_correct is not None, manifest.is_labelled),
        }
        for name, (found, wanted) in agreements.items():
            if found != wanted:
                raise CorruptStoreError(
                    f"{where}: {name}: found {shown(found)}, wanted {shown(wanted)}: it was put in another place"
                )
        if (size := manifest.view_bytes(part_id.block, self.num_samples, self.key_bytes)) > MAX_VIEW_BYTES:
            raise CorruptStoreError(
                f"{where}: found {size} bytes in a view of this part, wanted at most {MAX_VIEW_BYTES}"
            )


def encode_part(
    manifest: Manifest, part_id: PartId, rows: PartRows, skipped: Sequence[str], stats: PartStats
) -> tuple[bytes, Commit]:
    """The part's bytes and its commit; the arguments are what the commit says, checked before."""
    identity = manifest.identity
    data, chunks = manifest.part_format.encode(identity, part_id.block, rows)
    digest = sha256_hex(data)
    commit = Commit(
        shard=part_id.shard,
        first_view=part_id.block.first,
        last_view=part_id.block.last,
        fingerprint=identity.fingerprint,
        part=part_file_name(part_id.shard, digest, manifest),
        part_bytes=len(data),
        part_sha256=digest,
        num_samples=len(rows.keys),
        skipped=tuple(skipped),
        samples_sha256=samples_digest(rows.keys, rows.labels),
        key_bytes=rows.keys.dtype.itemsize,
        samples=chunks[0] if chunks else (),
        views=tuple(chunks[1:]),
        stats=stats,
    )
    return data, commit


def read_commit(storage: Storage, manifest: Manifest, part_id: PartId) -> Commit:
    """A part's commit; NotCachedError where there is none, CorruptStoreError where it is not that part's."""
    where = f"{storage.url}/{part_id.commit_name}"
    commit = read_document(storage, part_id.commit_name, Commit)
    commit.check_fits(manifest, part_id, where)
    return commit


def part_file_name(shard: str, sha256: str, manifest: Manifest) -> str:
    """The part's file name, which says its content."""
    return f"{shard}-{sha256[:16]}{manifest.part_format.suffix}"
