"""open_store and Store: read a store's rows, views and statistics."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from jaxtyping import Int64, Shaped

from pld.errors import ConfigError, CorruptStoreError, NotCachedError, StoreError
from pld.prefetch import IO_THREADS
from pld.store.documents.commit import Commit, read_commit
from pld.store.documents.layout import Layout, read_layout
from pld.store.documents.manifest import Manifest, read_manifest
from pld.store.documents.probes import Probe, read_probes
from pld.store.format.blocks import Block, PartId
from pld.store.format.quantise import GridTopK, narrow
from pld.store.format.samples import KeyIndex, Keys
from pld.store.format.schema import MAX_VIEW_BYTES
from pld.store.format.stats import PartStats
from pld.store.objects.local_storage import LocalStorage
from pld.store.objects.open import open_storage
from pld.store.objects.storage import Storage
from pld.store.read.chunks import read_keys, read_labels, read_view
from pld.store.read.table import LogitTable

# Reading local files, more threads than cores only wait for Python's lock.
_LOCAL_THREADS = min(IO_THREADS, os.cpu_count() or 1)
T = TypeVar("T")
R = TypeVar("R")


def open_store(url: str | os.PathLike[str]) -> Store:
    """Open a store for reading, as it is now: parts that are committed later are seen by opening it again.

    Raises:
        NotCachedError: there is no store.
        CorruptStoreError: its manifest is not what was written.
        StoreError: the URL cannot be read.
    """
    storage = open_storage(url)
    manifest = read_manifest(storage)
    return Store(storage, manifest, read_layout(storage, manifest))


class Store:
    """One teacher's top-k logits of a dataset's views.

    Rows are common to all views: the samples in the order of the manifest's shards, then of their position in the
    shard, skipped ones left out.

    Attributes:
        manifest: what it was made of.
        url: where it is.
        layout: the blocks, commits and seals that there were when it was opened.
    """

    def __init__(self, storage: Storage, manifest: Manifest, layout: Layout) -> None:
        self.manifest = manifest
        self.url = storage.url
        self.layout = layout
        self._storage = storage

    @functools.cached_property
    def num_views(self) -> int:
        """How many views from view 0 on are complete.

        Raises:
            CorruptStoreError: a sealed block has lost a commit.
        """
        complete = 0
        for block in self.layout.blocks:
            missing = self.layout.missing(block, self.manifest)
            if missing and block in self.layout.sealed:
                raise CorruptStoreError(
                    f"{self.url}/{missing[0].commit_name}: gone, with {len(missing) - 1} others of the sealed block "
                    f"{block.name}; fetch or cache them again"
                )
            if missing:
                break
            complete = block.last + 1
        return complete

    @property
    def num_samples(self) -> int:
        """How many rows there are; skipped samples have none."""
        return sum(commit.num_samples for commit, _ in self._shards)

    @property
    def is_labelled(self) -> bool:
        """Whether its images have labels; where they have none, the teacher alone ranks."""
        return self.manifest.is_labelled

    @property
    def skipped(self) -> tuple[str, ...]:
        """Keys of the dataset's samples that have no row."""
        return tuple(key for commit, _ in self._shards for key in commit.skipped)

    @property
    def shard_numbers(self) -> tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "S"]]:
        """The number, in the manifest's order, of each row's image shard and of each skipped sample's."""
        held, skipped = zip(*((commit.num_samples, len(commit.skipped)) for commit, _ in self._shards), strict=True)
        numbers = np.arange(len(held))
        return np.repeat(numbers, held), np.repeat(numbers, skipped)

    @functools.cached_property
    def keys(self) -> Shaped[np.ndarray, "N"]:
        """All rows' keys, UTF-8 in a fixed-width 'S' array."""
        return np.concatenate(self._map_first_block(lambda commit: read_keys(self._storage, self.manifest, commit)))

    @property
    def labels(self) -> Int64[np.ndarray, "N"] | None:
        """All rows' labels; None in a store without labels."""
        return None if self._labels is None else self._labels.astype(np.int64)

    def rows(self, keys: Keys) -> Int64[np.ndarray, "M"]:
        """The rows of keys (strings, or UTF-8 in an 'S' array).

        Raises:
            NotCachedError: names the first keys that the store does not hold, and how many there are.
        """
        return self._index.rows(keys)

    def load_view(self, view: int, k: int | None = None) -> LogitTable:
        """One view of all rows, checked and in memory as small integers; only its own bytes are fetched.

        Args:
            view: 0 to num_views - 1.
            k: classes to keep; None for all the store has. Those left out join the tail, the label excepted.

        Raises:
            NotCachedError: the view is not there, or k is more than was cached.
            CorruptStoreError: a chunk is lost, or its bytes are not those that were committed.
        """
        held = self.manifest.identity.codec
        kept = held.k if k is None else k
        if not 0 <= view < self.num_views:
            raise NotCachedError(f"{self.url}: view {view}: {self.num_views} views are complete; cache more of them")
        if not 1 <= kept <= held.k:
            raise NotCachedError(f"{self.url}: k = {kept}: wanted 1 to {held.k}, which is what was cached")
        block = next(block for block in self.layout.blocks if view <= block.last)
        labels, firsts, parts = self._labels, [commit for commit, _ in self._shards], self.manifest.parts(block)
        ends = np.cumsum([first.num_samples for first in firsts])
        try:
            grid = GridTopK.empty(self.num_samples, kept, self.manifest.identity)
        except MemoryError as error:
            raise StoreError(f"{self.url}: a view of {self.num_samples} rows does not fit in memory: {error}") from None

        def load(index: int) -> None:
            commit, first = self._read_commit(parts[index]), firsts[index]
            if (commit.num_samples, commit.samples_sha256) != (first.num_samples, first.samples_sha256):
                raise CorruptStoreError(f"{self.url}/{commit.part_name}: other samples than in the store's first block")
            rows = slice(int(ends[index]) - commit.num_samples, int(ends[index]))
            part = read_view(self._storage, self.manifest, commit, view)
            own = None if labels is None else labels[rows]
            grid.put(rows, part if kept == held.k else narrow(part, own, held, kept))

        # Few parts at once where they are large, so that what is being decoded stays small.
        largest = max(first.num_samples for first in firsts)
        most = max(1, MAX_VIEW_BYTES // self.manifest.view_bytes(Block(first=0, last=0), largest, 1))
        self._map_in_threads(load, range(len(parts)), most=most)
        return LogitTable(
            view=view,
            codec=held if kept == held.k else dataclasses.replace(held, k=kept, tail_samples=0),
            grid=grid,
            labels=labels,
            find_rows=self.rows,
        )

    @functools.cached_property
    def probes(self) -> tuple[Probe, ...]:
        """A few views' pixels as the teacher's side saw them, see pld.join.pixel_probes; none in some stores."""
        return read_probes(self._storage, self.manifest)

    @property
    def stats(self) -> PartStats:
        """The figures of all that is committed so far."""
        return self._totals[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of the manifest and of all parts and commits so far."""
        return self.array_bytes.total() + len(self.manifest.dump())

    @property
    def array_bytes(self) -> Counter[str]:
        """Bytes of each array over all parts, with `container` for what is around them and `commits`."""
        return self._totals[1]

    def gradient_error_bound(self, fraction: float = 0.95) -> tuple[float, float]:
        """The certificate: by how much PLD's gradient at T = 1 may differ from the live teacher's, L1 per sample-view.

        2 x the mass outside S + 4 tanh(logprob_error / 2), see FORMAT.md.

        Returns:
            Its mean, and a bound that this fraction of the sample-views keep.

        Raises:
            ConfigError: the fraction is not from 0 to 1.
        """
        if not 0 <= fraction <= 1:
            raise ConfigError(f"fraction = {fraction}: wanted a number from 0 to 1")
        rounding = 4 * math.tanh(self.manifest.identity.codec.logprob_error / 2)
        return 2 * self.stats.mean_tail_mass + rounding, 2 * self.stats.tail_mass_quantile(fraction) + rounding

    @functools.cached_property
    def _totals(self) -> tuple[PartStats, Counter[str]]:
        def figures(part: PartId) -> tuple[PartStats, Counter[str]]:
            commit = self._read_commit(part)
            return commit.stats, commit.array_bytes(self.manifest)

        found = self._map_in_threads(figures, sorted(self.layout.committed))
        return PartStats.total(stats for stats, _ in found), sum((spent for _, spent in found), Counter[str]())

    @functools.cached_property
    def _shards(self) -> list[tuple[Commit, np.ndarray | None]]:
        """The first block's commits, without their chunks, which take the most memory, and labels."""

        def without_chunks(commit: Commit) -> tuple[Commit, np.ndarray | None]:
            labels = read_labels(self._storage, self.manifest, commit)
            return dataclasses.replace(commit, samples=(), views=()), labels

        return self._map_first_block(without_chunks)

    @functools.cached_property
    def _labels(self) -> np.ndarray | None:
        return (
            np.concatenate([labels for _, labels in self._shards if labels is not None]) if self.is_labelled else None
        )

    @functools.cached_property
    def _index(self) -> KeyIndex:
        return KeyIndex(self.keys, self.url)

    def _read_commit(self, part: PartId) -> Commit:
        return read_commit(self._storage, self.manifest, part)

    def _map_first_block(self, function: Callable[[Commit], R]) -> list[R]:
        """`function` of each commit of the first block, which fixes the rows; commits are not kept."""
        if not self.num_views:
            raise NotCachedError(f"{self.url}: its first views are not complete yet; run `make cache` again to go on")
        return self._map_in_threads(
            lambda part: function(self._read_commit(part)), self.manifest.parts(self.layout.blocks[0])
        )

    def _map_in_threads(self, function: Callable[[T], R], items: Iterable[T], *, most: int = IO_THREADS) -> list[R]:
        useful = _LOCAL_THREADS if isinstance(self._storage, LocalStorage) else IO_THREADS
        with ThreadPoolExecutor(min(most, useful)) as pool:
            return list(pool.map(function, items))
