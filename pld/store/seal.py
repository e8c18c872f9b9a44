"""Seals: written when a block is complete, they tell a lost commit from one that was never made."""

from __future__ import annotations

from pld.store.canonical import dump_document, sha256_hex
from pld.store.commit import COMMIT_MAX_BYTES
from pld.store.layout import seal_name
from pld.store.manifest import Manifest
from pld.store.plan import Block, PartId
from pld.store.storage import Storage


def seal_block(storage: Storage, manifest: Manifest, block: Block) -> bool:
    """Seal a complete block unless it is sealed; whether this call did. Raises StoreError."""
    if storage.exists(seal_name(block)):
        return False
    commits = {}
    for shard in manifest.shards:
        name = PartId(block=block, shard=shard.name).commit_name
        commits[shard.name] = sha256_hex(storage.read(name, COMMIT_MAX_BYTES))
    content = {
        "first_view": block.first,
        "last_view": block.last,
        "fingerprint": manifest.identity.fingerprint,
        "commits": commits,
    }
    return storage.put_exclusive(seal_name(block), dump_document(content))
