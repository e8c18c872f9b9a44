"""A commit: the small file, created last and exclusively, that makes a part trusted, and says all about it."""

from __future__ import annotations

import dataclasses
from typing import Any

from pld.errors import CorruptStoreError
from pld.store.documents.manifest import Manifest
from pld.store.format.canonical import dump_document, load_document, shown
from pld.store.format.fields import SAFE_NAME, SHA256, Fields
from pld.store.format.plan import MAX_VIEWS, Block, PartId
from pld.store.format.samples import MAX_KEY_BYTES
from pld.store.format.schema import MAX_VIEW_BYTES, SAMPLE_ARRAYS, VIEW_ARRAYS, Chunk, view_bytes
from pld.store.format.stats import PartStats
from pld.store.objects.storage import Storage

COMMIT_MAX_BYTES = 2**26
_MAX_PART_BYTES = 2**40
_MAX_ROWS = 2**27


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commit:
    """What a commit says.

    Attributes:
        part_id: the image shard and the block of views.
        fingerprint: of the store it belongs to.
        part: the part's file name inside the block's folder; it carries the content's hash.
        part_bytes, part_sha256: of the whole part.
        num_samples: rows in the part, skipped samples not among them.
        skipped: keys of the shard's samples that have no row, in shard order.
        samples_sha256: digest of the rows' keys and labels in row order; the same in all blocks of a shard.
        key_bytes: length of the longest key.
        samples: the chunks of SAMPLE_ARRAYS, in their order; none in a part without rows.
        views: for each view the chunks of VIEW_ARRAYS, in their order; none in a part without rows.
        stats: sums over the part.
    """

    part_id: PartId
    fingerprint: str
    part: str
    part_bytes: int
    part_sha256: str
    num_samples: int
    skipped: tuple[str, ...]
    samples_sha256: str
    key_bytes: int
    samples: tuple[Chunk, ...]
    views: tuple[tuple[Chunk, ...], ...]
    stats: PartStats

    @property
    def part_name(self) -> str:
        """The part's name in the store."""
        return f"{self.part_id.block.parts_folder}/{self.part}"

    def dump(self) -> bytes:
        """The commit's bytes."""
        return dump_document(
            {
                "shard": self.part_id.shard,
                "first_view": self.part_id.block.first,
                "last_view": self.part_id.block.last,
                "fingerprint": self.fingerprint,
                "part": self.part,
                "part_bytes": self.part_bytes,
                "part_sha256": self.part_sha256,
                "num_samples": self.num_samples,
                "skipped": self.skipped,
                "samples_sha256": self.samples_sha256,
                "key_bytes": self.key_bytes,
                "samples": [dataclasses.astuple(chunk) for chunk in self.samples],
                "views": [[dataclasses.astuple(chunk) for chunk in view] for view in self.views],
                "stats": self.stats.to_json(),
            }
        )

    @classmethod
    def load(cls, data: bytes, where: str) -> Commit:
        """Parse a commit; raises CorruptStoreError naming the field at fault."""
        fields = Fields(load_document(data, where), where)
        first = fields.integer("first_view", 0, MAX_VIEWS)
        block = Block(first=first, last=fields.integer("last_view", first, MAX_VIEWS))
        commit = cls(
            part_id=PartId(block=block, shard=fields.text("shard", SAFE_NAME)),
            fingerprint=fields.text("fingerprint", SHA256),
            part=fields.text("part", SAFE_NAME),
            part_bytes=fields.integer("part_bytes", 0, _MAX_PART_BYTES),
            part_sha256=fields.text("part_sha256", SHA256),
            num_samples=fields.integer("num_samples", 0, _MAX_ROWS),
            skipped=fields.texts("skipped"),
            samples_sha256=fields.text("samples_sha256", SHA256),
            key_bytes=fields.integer("key_bytes", 1, MAX_KEY_BYTES),
            samples=_chunks(fields.items("samples"), where),
            views=tuple(_chunks(view, where) for view in fields.items("views")),
            stats=PartStats.from_json(fields.take("stats"), f"{where}: stats"),
        )
        fields.done()
        return commit

    def check_fits(self, manifest: Manifest, part_id: PartId, where: str) -> None:
        """Raise CorruptStoreError unless this is the commit of that part in that store, and its counts agree."""
        identity = manifest.identity
        shard = manifest.shards_by_name[part_id.shard]
        chunks = [len(SAMPLE_ARRAYS), *[len(VIEW_ARRAYS)] * part_id.block.num_views] if self.num_samples else [0]
        agreements = {
            "part": (self.part_id, part_id),
            "fingerprint": (self.fingerprint, identity.fingerprint),
            "file name": (self.part, part_file_name(part_id.shard, self.part_sha256, manifest)),
            "samples": (self.num_samples + len(self.skipped), shard.num_samples),
            "chunks": ([len(view) for view in (self.samples, *self.views)], chunks),
        }
        for name, (found, wanted) in agreements.items():
            if found != wanted:
                raise CorruptStoreError(
                    f"{where}: {name}: found {shown(found)}, wanted {shown(wanted)}: it was put in another place"
                )
        size = view_bytes(manifest.part_format.columns(identity, part_id.block, self.num_samples, self.key_bytes))
        if size > MAX_VIEW_BYTES:
            raise CorruptStoreError(
                f"{where}: found {size} bytes in a view of this part, wanted at most {MAX_VIEW_BYTES}"
            )


def read_commit(storage: Storage, manifest: Manifest, part_id: PartId) -> Commit:
    """A part's commit; NotCachedError where there is none, CorruptStoreError where it is not that part's."""
    where = f"{storage.url}/{part_id.commit_name}"
    commit = Commit.load(storage.read(part_id.commit_name, COMMIT_MAX_BYTES), where)
    commit.check_fits(manifest, part_id, where)
    return commit


def part_file_name(shard: str, sha256: str, manifest: Manifest) -> str:
    """The part's file name, which says its content."""
    return f"{shard}-{sha256[:16]}{manifest.part_format.suffix}"


def _chunks(values: Any, where: str) -> tuple[Chunk, ...]:
    """Chunks from a list of [offset, num_bytes, sha256]."""
    # Checked by hand: a store of ImageNet's size has a hundred thousand of them.
    if not isinstance(values, list) or not all(map(_is_chunk, values)):
        wanted = f"[offset, bytes, sha256], numbers up to {_MAX_PART_BYTES}"
        raise CorruptStoreError(f"{where}: found {shown(values)} as chunks, wanted a list of {wanted}")
    return tuple(Chunk(offset=offset, num_bytes=size, sha256=digest) for offset, size, digest in values)


def _is_chunk(value: Any) -> bool:
    if type(value) is not list or len(value) != 3:
        return False
    offset, size, digest = value
    whole = type(offset) is int and type(size) is int and type(digest) is str
    return (
        whole
        and 0 <= offset <= _MAX_PART_BYTES
        and 0 <= size <= _MAX_PART_BYTES
        and SHA256.fullmatch(digest) is not None
    )
