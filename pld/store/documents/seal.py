"""Seals: written when a block is complete, they tell a lost commit from one that was never made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from pld.errors import CorruptStoreError
from pld.prefetch import IO_THREADS
from pld.store.documents.layout import seal_name
from pld.store.documents.manifest import Manifest
from pld.store.format.blocks import Block, ViewIndex
from pld.store.format.canonical import dump_document, sha256_hex
from pld.store.format.typed_json import MAX_DOCUMENT_BYTES, Sha256, read_document
from pld.store.objects.storage import Storage


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Seal:
    """What a seal says: of which block and store it is, and the sha256 of each shard's commit."""

    first_view: ViewIndex
    last_view: ViewIndex
    fingerprint: Sha256
    commits: Mapping[str, Sha256]


def seal_block(storage: Storage, manifest: Manifest, block: Block) -> bool:
    """Seal a complete block unless it is sealed; whether this call did. Raises StoreError."""
    if storage.exists(seal_name(block)):
        return False
    parts = manifest.parts(block)
    with ThreadPoolExecutor(IO_THREADS) as pool:
        digests = list(pool.map(lambda part: sha256_hex(storage.read(part.commit_name, MAX_DOCUMENT_BYTES)), parts))
    seal = _Seal(
        first_view=block.first,
        last_view=block.last,
        fingerprint=manifest.identity.fingerprint,
        commits={part.shard: digest for part, digest in zip(parts, digests, strict=True)},
    )
    return storage.put_exclusive(seal_name(block), dump_document(seal))


def read_seal(storage: Storage, manifest: Manifest, block: Block) -> Mapping[str, str]:
    """The sha256 of each shard's commit; raises CorruptStoreError where it is not this block's seal."""
    where = f"{storage.url}/{seal_name(block)}"
    found = read_document(storage, seal_name(block), _Seal)
    fields = (found.first_view, found.last_view, found.fingerprint)
    if fields != (wanted := (block.first, block.last, manifest.identity.fingerprint)):
        raise CorruptStoreError(f"{where}: found first view, last view and fingerprint {fields}, wanted {wanted}")
    if found.commits.keys() != manifest.shards_by_name.keys():
        raise CorruptStoreError(f"{where}: found the commits of other shards than the store's")
    return found.commits
