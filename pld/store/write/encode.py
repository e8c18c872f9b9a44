"""From a part's rounded values to its bytes and the commit that makes them trusted; no I/O."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer, Shaped

from pld.store.documents.commit import Commit, part_file_name
from pld.store.documents.manifest import Manifest
from pld.store.format.canonical import sha256_hex
from pld.store.format.plan import PartId
from pld.store.format.quantise import GridTopK
from pld.store.format.samples import samples_digest
from pld.store.format.stats import PartStats


def encode_part(
    manifest: Manifest,
    part_id: PartId,
    keys: Shaped[np.ndarray, "N"],
    labels: Integer[np.ndarray, "N"],
    views: Sequence[GridTopK],
    skipped: Sequence[str],
    stats: PartStats,
) -> tuple[bytes, Commit]:
    """The part's bytes and its commit; the arguments are what the commit says, checked before."""
    identity = manifest.identity
    part = manifest.part_format.encode(identity, part_id.block, keys, labels, views)
    digest = sha256_hex(part.data)
    commit = Commit(
        shard=part_id.shard,
        first_view=part_id.block.first,
        last_view=part_id.block.last,
        fingerprint=identity.fingerprint,
        part=part_file_name(part_id.shard, digest, manifest),
        part_bytes=len(part.data),
        part_sha256=digest,
        num_samples=len(keys),
        skipped=tuple(skipped),
        samples_sha256=samples_digest(keys, labels),
        key_bytes=keys.dtype.itemsize,
        samples=part.samples,
        views=part.views,
        stats=stats,
    )
    return part.data, commit
