"""Prefetch remote image shards: fetch them whole before they are needed, and release them afterwards.

`prefetch_shards` yields a reader's work items in their order, each as soon as its shards are on the local disk. Which
shards are needed, and for how long, is planned from that order.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from pld.errors import ConfigError
from pld.images.sources.source import RemoteFiles, Source
from pld.remote.shard_cache import LIMIT_VARIABLE, HeldShard

T = TypeVar("T")

_FETCHING_THREADS = 4
# A shard is fetched whole if more than this share of its images is wanted; else they are read one by one. At the end of
# an epoch, all processes share the streams that last longest, and each wants a few images of many shards.
_WHOLE_SHARE = 0.5


class Use(NamedTuple):
    """A use of a whole shard, from its first to its last item."""

    first: int
    last: int
    shard: int


def plan_uses(
    file_index: Int64[ndarray, "N"], items: Iterable[Int64[ndarray, "n"]], start: int
) -> tuple[list[Use], int]:
    """Plan which shards a pass uses whole, without any I/O.

    Args:
        file_index: the shard of each row.
        items: the rows of each item, in order.
        start: the first item's number.

    Returns:
        The uses, by their first items, and the number of the item after the last.
    """
    num_rows = np.bincount(file_index)
    first = np.full(len(num_rows), -1, np.int64)
    last = np.full(len(num_rows), -1, np.int64)
    wanted = np.zeros(len(num_rows), np.int64)
    number = start
    for rows in items:
        files, counts = np.unique(file_index[rows], return_counts=True)
        wanted[files] += counts
        first[files[first[files] < 0]] = number
        last[files] = number
        number += 1
    whole = np.flatnonzero((first >= 0) & (wanted > _WHOLE_SHARE * num_rows))
    return sorted(Use(int(first[i]), int(last[i]), int(i)) for i in whole), number


def peak_bytes(uses: Sequence[Use], num_bytes: Int64[ndarray, "files"], in_flight: int) -> int:
    """The most bytes needed at once, if a use ends `in_flight` items after its last one.

    Args:
        uses: sorted; those of one shard may overlap if one pass ends and the next begins with it.
        num_bytes: of each shard.
        in_flight: see `prefetch_shards`.
    """
    changes: list[tuple[int, int]] = []
    ends: dict[int, int] = {}
    for use in uses:
        begin, end = max(use.first, ends.get(use.shard, 0)), use.last + in_flight
        if end > begin:
            changes += [(begin, int(num_bytes[use.shard])), (end, -int(num_bytes[use.shard]))]
            ends[use.shard] = end
    return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)


def prefetch_shards(
    source: Source,
    passes: Sequence[Callable[[], Iterable[T]]],
    rows_of: Callable[[T], Int64[ndarray, "n"]],
    *,
    in_flight: int,
    share: float = 1.0,
) -> Generator[T, None, None]:
    """Yield the items of all passes in order, those of a remote source once their shards are on the local disk.

    Args:
        source: the images.
        passes: each returns its items, the same ones at every call; a pass is planned as a whole.
        rows_of: an item's rows.
        in_flight: when item n is asked for, all items up to n - in_flight are done.
        share: the share of this machine's cache limit that this call may use in all processes together.

    Raises:
        ConfigError: the limit is smaller than what is needed at once; says how much that is.
        DataError, OutputError: a shard cannot be read or cached.
    """
    if source.remote is None:
        for items in passes:
            yield from items()
        return
    with _Fetcher(source, source.remote, passes, rows_of, in_flight, share) as fetcher:
        number = 0
        for items in passes:
            for item in items():
                fetcher.wait_for(number)
                yield item
                number += 1


class _Fetcher(Generic[T]):
    """Threads that fetch shards by first use within a budget; a shard is held until its last item is done.

    They cannot deadlock: all shards that are held when an item is waited for are needed at that item, together at most
    `peak_bytes`, which was checked against the budget.
    """

    def __init__(
        self,
        source: Source,
        remote: RemoteFiles,
        passes: Sequence[Callable[[], Iterable[T]]],
        rows_of: Callable[[T], Int64[ndarray, "n"]],
        in_flight: int,
        share: float,
    ) -> None:
        self._source, self._remote, self._passes, self._rows_of = source, remote, passes, rows_of
        self._in_flight, self._share = in_flight, share
        self._budget = int(remote.place.cache.max_bytes * share) // _local_processes()
        self._num_bytes = np.array([shard.num_bytes for shard in remote.shards], dtype=np.int64)
        self._changed = threading.Condition()
        self._planned = 0  # all fetching for items before this one has started
        self._fetches: dict[Use, Future[HeldShard]] = {}  # those that have started and whose items are not done
        self._stop = threading.Event()

    def __enter__(self) -> _Fetcher[T]:
        self._pool = ThreadPoolExecutor(_FETCHING_THREADS + 1)
        self._planning = self._pool.submit(self._plan)
        self._planning.add_done_callback(lambda _: self._notify())
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._notify()
        self._pool.shutdown(cancel_futures=True)
        for fetch in self._fetches.values():
            if not fetch.cancelled() and not fetch.exception():
                fetch.result().release()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, number: int) -> None:
        """Wait until the item's shards are here; release those whose items are done."""
        with self._changed:
            for use in [use for use in self._fetches if use.last + self._in_flight <= number]:
                self._fetches.pop(use).result().release()
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._planned > number or self._planning.done())
            needed = [
                fetch
                for use, fetch in self._fetches.items()
                if use.first <= number or (fetch.done() and fetch.exception())  # early: the next ones may fail as well
            ]
        if self._planning.done():
            self._planning.result()
        for fetch in needed:
            fetch.result()

    def _plan(self) -> None:
        start = 0
        before: list[Use] = []
        for items in self._passes:
            uses, end = plan_uses(self._source.file_index, (self._rows_of(item) for item in items()), start)
            # The last shards of a pass are still held when the first of the next are needed.
            self._check_budget(before + uses)
            for use in uses:
                with self._changed:
                    self._planned = use.first
                    self._changed.notify_all()
                    self._changed.wait_for(functools.partial(self._may_start, use.shard))
                    if self._stop.is_set():
                        return
                    shard = self._remote.shards[use.shard]
                    self._fetches[use] = self._pool.submit(self._remote.place.hold, shard, self._stop)
            with self._changed:
                self._planned = end
                self._changed.notify_all()
            before = [use for use in before + uses if use.last + self._in_flight > end]
            start = end

    def _may_start(self, shard: int) -> bool:
        """Whether there is room for a shard, or the fetcher is to stop."""
        shards = {shard, *(use.shard for use in self._fetches)}
        return self._stop.is_set() or int(self._num_bytes[list(shards)].sum()) <= self._budget

    def _check_budget(self, uses: list[Use]) -> None:
        needed = peak_bytes(uses, self._num_bytes, self._in_flight)
        if needed > self._budget:
            wanted = -int(-needed * _local_processes() // self._share)
            raise ConfigError(
                f"{LIMIT_VARIABLE}: {self._remote.place.cache.max_bytes:,} bytes; {self._source.location} wants "
                f"{wanted:,} on this machine for the shards that are used at the same time. Raise the limit if the "
                "disk has room, or train with fewer --streams, still a multiple of the number of processes"
            )


def _local_processes() -> int:
    """How many processes of this run share this machine, from the launcher's environment."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1)
