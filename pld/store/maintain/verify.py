"""Verify a store without its teacher, and report each problem with its object's name.

Each object's bytes are compared with the digest that another names, then what they decode to with what they must be:
counts, keys, ranks, probabilities, and the digest of the whole dataset.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from pld.errors import CorruptStoreError, NotCachedError
from pld.store.documents.commit import Commit, read_commit
from pld.store.documents.layout import CorruptBlockError, Layout, block_name, read_layout, seal_name
from pld.store.documents.manifest import MANIFEST_NAME, Manifest, read_manifest
from pld.store.documents.probes import PROBES_NAME, read_probes
from pld.store.documents.seal import read_seal
from pld.store.format.blocks import Block, PartId
from pld.store.format.canonical import sha256_hex
from pld.store.format.identity import dataset_digest
from pld.store.format.typed_json import MAX_DOCUMENT_BYTES
from pld.store.maintain.verify_part import part_problems, read_samples
from pld.store.objects.storage import Storage

_IN_BLOCK = re.compile(r"(commits|seals|parts)/(?P<block>v(?P<first>\d{3,})-(?P<last>\d{3,}))[./].*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with one object.

    Attributes:
        name: the object's, in the store.
        found: what was found, and what was wanted.
        part: the part that it belongs to, where it is a part or its commit.
        block: the block that it belongs to.
    """

    name: str
    found: str
    part: PartId | None = None
    block: Block | None = None


def verify_store(storage: Storage, on_bytes: Callable[[int, int], object]) -> Iterator[Problem]:
    """All problems of a store, as they are found.

    Args:
        storage: where it lies.
        on_bytes: called after each part with its bytes and those of all parts.

    Raises:
        NotCachedError: there is no store.
        StoreError: it cannot be read.
    """
    try:
        manifest = read_manifest(storage)
    except CorruptStoreError as error:
        yield Problem(name=MANIFEST_NAME, found=f"{error}; nothing else can be checked without it")
        return
    try:
        layout = read_layout(storage, manifest)
    except CorruptBlockError as error:
        block = next((block for block in _blocks_with_objects(storage) if block_name(block.first) == error.name), None)
        yield Problem(name=error.name, found=f"{error}; no part can be checked without it", block=block)
        return
    for block in _blocks_with_objects(storage):
        if block not in layout.blocks:
            found = f"gone, and there are objects of {block.name}"
            yield Problem(name=block_name(block.first), found=found, block=block)
    commits: dict[PartId, Commit] = {}
    for block in layout.blocks:
        yield from _check_block(storage, manifest, layout, block, commits)
    total = sum(commit.part_bytes for commit in commits.values())
    for part_id, commit in commits.items():
        for found in part_problems(storage, manifest, commit):
            yield Problem(name=commit.part_name, found=found, part=part_id, block=part_id.block)
        on_bytes(commit.part_bytes, total)
    yield from _check_rows(storage, manifest, layout, commits)
    try:
        read_probes(storage, manifest)
    except CorruptStoreError as error:
        yield Problem(name=PROBES_NAME, found=str(error))


def _blocks_with_objects(storage: Storage) -> list[Block]:
    """The blocks whose folders the names of commits, seals and parts say."""
    matches = [match for name in storage.list("") if (match := _IN_BLOCK.fullmatch(name))]
    return sorted({Block(first=int(match["first"]), last=int(match["last"])) for match in matches})


def _check_block(
    storage: Storage, manifest: Manifest, layout: Layout, block: Block, commits: dict[PartId, Commit]
) -> Iterator[Problem]:
    """A block's commits and its seal; those that are sound go into `commits`."""
    missing = layout.missing(block, manifest)
    sealed: Mapping[str, str] = {}
    if block in layout.sealed:
        try:
            sealed = read_seal(storage, manifest, block)
        except CorruptStoreError as error:
            yield Problem(name=seal_name(block), found=str(error), block=block)
        for part_id in missing:
            yield Problem(name=part_id.commit_name, found="gone from a sealed block", part=part_id, block=block)
    elif not missing:
        found = "gone, or the last writer was killed before it; all commits are there, caching again seals them"
        yield Problem(name=seal_name(block), found=found, block=block)
    for part_id in manifest.parts(block):
        if part_id in layout.committed:
            try:
                commits[part_id] = _read_sealed_commit(storage, manifest, part_id, sealed.get(part_id.shard))
            except (CorruptStoreError, NotCachedError) as error:
                yield Problem(name=part_id.commit_name, found=str(error), part=part_id, block=block)


def _read_sealed_commit(storage: Storage, manifest: Manifest, part_id: PartId, sealed: str | None) -> Commit:
    commit = read_commit(storage, manifest, part_id)
    if sealed not in (None, found := sha256_hex(storage.read(part_id.commit_name, MAX_DOCUMENT_BYTES))):
        raise CorruptStoreError(f"{storage.url}/{part_id.commit_name}: found sha256 {found}, sealed was {sealed}")
    return commit


def _check_rows(
    storage: Storage, manifest: Manifest, layout: Layout, commits: dict[PartId, Commit]
) -> Iterator[Problem]:
    """What parts must agree on: a shard's samples in all blocks, and all samples with the dataset."""
    rows: dict[str, Commit] = {}
    for part_id, commit in commits.items():
        first = rows.setdefault(part_id.shard, commit)
        if (commit.samples_sha256, commit.skipped) != (first.samples_sha256, first.skipped):
            found = f"other samples than {first.part_id.commit_name}"
            yield Problem(name=part_id.commit_name, found=found, part=part_id, block=part_id.block)
    if len(rows) < len(manifest.shards):
        return
    try:
        samples = [read_samples(storage, manifest, rows[shard.name]) for shard in manifest.shards]
    except CorruptStoreError:
        return  # said of its part before
    keys = np.concatenate([keys for keys, _ in samples])
    if len(np.unique(keys)) < len(keys):
        yield Problem(name=MANIFEST_NAME, found="a key comes twice among the store's samples")
    wanted = manifest.identity.dataset.digest
    if len(keys) == manifest.identity.dataset.num_samples:
        held = [labels for _, labels in samples if labels is not None]
        found = dataset_digest(keys, np.concatenate(held) if manifest.is_labelled else None)
        if found != wanted:
            yield Problem(name=MANIFEST_NAME, found=f"its samples have the digest {found}, it says {wanted}")
