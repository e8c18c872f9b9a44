"""Seals: written when a block is complete, they tell a lost commit from one that was never made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from pld.store.documents.commit import COMMIT_MAX_BYTES
from pld.store.documents.layout import seal_name
from pld.store.documents.manifest import Manifest
from pld.store.format.canonical import dump_document, sha256_hex
from pld.store.format.plan import Block, PartId
from pld.store.objects.storage import Storage

# Enough to hide an object store's latency.
_THREADS = 8


def seal_block(storage: Storage, manifest: Manifest, block: Block) -> bool:
    """Seal a complete block unless it is sealed; whether this call did. Raises StoreError."""
    if storage.exists(seal_name(block)):
        return False
    shards = [shard.name for shard in manifest.shards]
    names = [PartId(block=block, shard=shard).commit_name for shard in shards]
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = list(pool.map(lambda name: sha256_hex(storage.read(name, COMMIT_MAX_BYTES)), names))
    content = {
        "first_view": block.first,
        "last_view": block.last,
        "fingerprint": manifest.identity.fingerprint,
        "commits": dict(zip(shards, digests, strict=True)),
    }
    return storage.put_exclusive(seal_name(block), dump_document(content))
