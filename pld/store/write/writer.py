"""StoreWriter: create or resume a store, write its missing parts, seal what is complete."""

from __future__ import annotations

import contextlib
import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Int

from pld.errors import ConfigError, DataError, NotCachedError, StoreError
from pld.signals import TopK
from pld.store.documents.commit import Commit, encode_part, read_commit
from pld.store.documents.layout import claim_block, read_blocks, read_layout
from pld.store.documents.manifest import MANIFEST_NAME, FormatName, Manifest, Shard, check_and_dump, read_manifest
from pld.store.documents.probes import Probe, write_probes
from pld.store.documents.seal import seal_block
from pld.store.format.blocks import Block, PartId, plan_blocks
from pld.store.format.identity import Identity
from pld.store.format.quantise import dequantise, quantise
from pld.store.format.samples import Keys, key_array
from pld.store.format.schema import PartRows
from pld.store.format.stats import PartStats
from pld.store.objects.open import open_storage
from pld.store.objects.storage import Storage
from pld.store.write.check import check_part
from pld.store.write.garbage import sweep

DEFAULT_BLOCK_VIEWS = 10


class StoreWriter:
    """Writes a store, alone or together with other writers that share nothing but the store.

    For people who have logits already: say what they are of, then write each image shard's views. Logits of crops that
    `pld.views` did not draw are logits of other pixels than students will see: use `Fixed` views, or draw them with it.

    >>> keys, labels = [f"img{i}" for i in range(6)], np.arange(6) % 3
    >>> logits = torch.randn(2, 6, 3)  # views, samples, classes
    >>> shards = [Shard(name="train-0000", num_samples=4), Shard(name="train-0001", num_samples=2)]
    >>> policy = policy_to_json(RandomResizedCrop(seed=7))
    >>> identity = Identity(
    ...     teacher=TeacherIdentity(
    ...         name="my_model", tag="", weights_sha256=hashlib.sha256(b"its file").hexdigest(), num_classes=3,
    ...         input_size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bicubic",
    ...         precision="fp32",
    ...     ),
    ...     views=ViewIdentity(policy=policy, seed=policy.pop("seed"), drawing_version=DRAWING_VERSION),
    ...     dataset=DatasetIdentity(digest=dataset_digest(key_array(keys), labels), num_samples=6, class_names=None),
    ...     codec=CodecIdentity(k=2),
    ... )
    >>> writer = StoreWriter.open("stores/mine", identity, shards, {"made_by": "me"})
    >>> for part in writer.missing_parts(num_views=2):
    ...     rows = {"train-0000": slice(0, 4), "train-0001": slice(4, 6)}[part.shard]
    ...     views = [
    ...         TopK.from_logits(logits[view, rows], torch.from_numpy(labels[rows]), 2, identity.codec.temperatures)
    ...         for view in part.views
    ...     ]
    ...     commit = writer.write_part(part, keys[rows], labels[rows], views)
    >>> writer.seal()
    [Block(first=0, last=1)]
    >>> open_store("stores/mine").load_view(1)[np.arange(6)].classes.shape
    torch.Size([6, 2])
    """

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self.manifest = manifest
        self.url = storage.url
        self._storage = storage
        self._blocks: list[Block] = []

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str],
        identity: Identity,
        shards: Sequence[Shard],
        provenance: Mapping[str, Any],
        *,
        format: FormatName = "zarr",
    ) -> StoreWriter:
        """Create the store, or go on in one that was made with the same identity and shards.

        Args:
            url: a folder, made where there is none, or a URL; see open_storage.
            identity: what the numbers depend on.
            shards: the dataset's image shards in their order.
            provenance: free JSON; that of the store's creator is kept.
            format: what the parts are, "zarr" or "webdataset".

        Raises:
            FingerprintMismatchError: the store was made with other settings or shards; shows them.
            ConfigError: the identity and the shards do not fit each other, or hold what cannot be stored.
            CorruptStoreError: there is a manifest, and it is not what was written.
            StoreError: the folder cannot be written.
        """
        manifest = Manifest(identity=identity, provenance=provenance, shards=tuple(shards), format=format)
        return cls.create(open_storage(url), manifest)

    @classmethod
    def create(cls, storage: Storage, wanted: Manifest) -> StoreWriter:
        """As `open`, from a manifest."""
        data = check_and_dump(wanted)
        if storage.exists(MANIFEST_NAME) or not storage.put_exclusive(MANIFEST_NAME, data):
            held = read_manifest(storage)
            held.check_same(wanted, storage.url)
            return cls(storage, held)
        return cls(storage, wanted)

    def missing_parts(self, num_views: SupportsIndex, block_views: SupportsIndex = DEFAULT_BLOCK_VIEWS) -> list[PartId]:
        """The parts that are not committed yet of views 0..num_views-1, in the order to write them.

        Fixes the boundaries of the store's blocks up to num_views, for all writers; block_views is the width of new
        ones. Raises ConfigError where a number is below 1, StoreError where the store cannot be written.
        """
        try:
            views, width = operator.index(num_views), operator.index(block_views)
        except TypeError as error:
            raise ConfigError(f"found {num_views!r} views in blocks of {block_views!r}: {error}") from None
        if views < 1 or width < 1:
            raise ConfigError(f"found {views} views in blocks of {width}, wanted at least one of each")
        while new := plan_blocks(held := self._read_blocks(), views, width)[len(held) :]:
            claim_block(self._storage, new[0])
        layout = read_layout(self._storage, self.manifest)
        wanted = [block for block in layout.blocks if block.first < views]
        return [part for block in wanted for part in layout.missing(block, self.manifest)]

    def write_part(
        self,
        part_id: PartId,
        keys: Keys,
        labels: Int[np.ndarray, "M"] | None,
        views: Sequence[TopK],
        skipped: Sequence[str] = (),
        *,
        unmapped_mass: float = 0.0,
    ) -> Commit:
        """Write and commit one part; where another writer was first, its commit is returned and this part dropped.

        Args:
            part_id: one of `missing_parts`.
            keys: the shard's N keys, skipped samples left out, in shard order.
            labels: their labels; None where the identity says that the dataset has none.
            views: for each view of the block the N rows' signals, on any device.
            skipped: keys of the shard's other samples, in shard order.
            unmapped_mass: sum over rows and views of the model's mass on classes that the dataset does not have.

        Raises:
            DataError: keys, labels and skipped samples are not as many as the shard's, or not those of its other
                blocks. Whether all shards together are the dataset of the identity's digest is for `pld verify` to say.
            SignalError: a view does not hold what the store's identity says.
            StoreError: the part cannot be written; nothing half-written is left.
        """
        packed = key_array(keys)
        signals = [view.to("cpu") for view in views]
        if part_id.block not in self._blocks and part_id.block not in self._read_blocks():
            raise DataError(f"{self.url}: found {part_id}, wanted one of missing_parts()")
        check_part(self.manifest, part_id, packed, labels, signals, skipped)
        identity = self.manifest.identity
        grids = [quantise(topk, identity.codec, identity.teacher.num_classes) for topk in signals]
        rounded = [dequantise(grid, labels, identity.codec) for grid in grids]
        stats = PartStats.of(rounded, identity.teacher.num_classes, unmapped_mass, identity.codec.error)
        return self.write_rounded(part_id, PartRows(keys=packed, labels=labels, views=grids), skipped, stats)

    def add_probes(self, probes: Sequence[Probe]) -> None:
        """Keep a few views' pixels, unless the store has some; see pld.join.pixel_probes. Raises StoreError."""
        write_probes(self._storage, self.manifest, probes)

    def copy_blocks(self, blocks: Sequence[Block]) -> None:
        """Claim the blocks of another store; raises StoreError where this one has views in other blocks."""
        for block in blocks:
            claim_block(self._storage, block)
        if (held := self._read_blocks()[: len(blocks)]) != list(blocks):
            found, wanted = (", ".join(block.name for block in some) for some in (held, blocks))
            raise StoreError(f"{self.url}: its views are in the blocks {found}, wanted {wanted}; name another store")

    def write_rounded(self, part_id: PartId, rows: PartRows, skipped: Sequence[str], stats: PartStats) -> Commit:
        """Write and commit a part that is rounded already, such as another store's; see `write_part`."""
        data, commit = encode_part(self.manifest, part_id, rows, skipped, stats)
        self._check_other_blocks(commit)
        return self.put_part(data, commit)

    def put_part(self, data: bytes, commit: Commit) -> Commit:
        """Write and commit what is encoded and checked already, such as another store's part; see `write_part`."""
        try:
            self._storage.put(commit.part_name, data)
            if self._storage.put_exclusive(commit.part_id.commit_name, commit.dump()):
                return commit
        except StoreError:
            # A winner's sweep may have taken the unfinished file from under this writer.
            if not self._storage.exists(commit.part_id.commit_name):
                raise
        winner = read_commit(self._storage, self.manifest, commit.part_id)
        if winner.part != commit.part:
            self._storage.delete(commit.part_name)
        return winner

    def seal(self) -> list[Block]:
        """Seal the blocks whose parts are all committed, and clear away what killed writers left.

        Call it when there is nothing more to write, also where nothing was missing.

        Returns:
            The blocks that this call sealed, not another writer.
        """
        layout = read_layout(self._storage, self.manifest)
        complete = [block for block in layout.blocks if not layout.missing(block, self.manifest)]
        sealed = [block for block in complete if seal_block(self._storage, self.manifest, block)]
        sweep(self._storage, self.manifest, complete)
        return sealed

    def _check_other_blocks(self, commit: Commit) -> None:
        """Refuse a part whose samples are not those of another block: each block was compared when it was written."""
        for block in self._read_blocks():
            if block == commit.part_id.block:
                continue
            with contextlib.suppress(NotCachedError):
                part_id = PartId(block=block, shard=commit.shard)
                check_same_samples(read_commit(self._storage, self.manifest, part_id), commit, self.url)
                return

    def _read_blocks(self) -> list[Block]:
        """The blocks there are now: other writers claim some too."""
        self._blocks = read_blocks(self._storage, self._blocks)
        return self._blocks


def check_same_samples(held: Commit, new: Commit, url: str) -> None:
    """Raise DataError unless two commits of a shard have the same rows."""
    if held.samples_sha256 != new.samples_sha256:
        changed = sorted(set(held.skipped) ^ set(new.skipped))
        raise DataError(
            f"{url}/{held.part_id.commit_name}: made of other samples than this part; skipped in one of them "
            f"alone: {', '.join(changed[:3]) or 'none, so keys, labels or their order differ'}; "
            "use the same images and decoder for all views, broken ones as they were, or name another store"
        )
