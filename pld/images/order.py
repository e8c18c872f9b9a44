"""The order of an epoch: a pure function, independent of world size, workers and where a run resumed."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from pld.randomness import permutation


def epoch_order(
    seed: int, epoch: int, shard_sizes: Sequence[int], streams: int, window: int
) -> Iterator[Int64[ndarray, "n"]]:
    """Yield every global row once, in the order in which the epoch visits them, as arrays of some length.

    Shards are dealt to `streams` streams, the same ones in every epoch, so that a node that owns a stream keeps
    its shards. Each epoch permutes a stream's shards, then the rows inside each window of `window` whole shards,
    so reads stay near each other and only one window per stream is held in memory. Position p comes from stream
    p mod streams while that stream lasts; the streams that last longest share the end.

    Args:
        seed: of the run.
        epoch: 0, 1, ...
        shard_sizes: samples in each shard; shard i's rows follow shard i-1's.
        streams: a multiple of the number of processes makes each process read its own streams only.
        window: shards in a window, at least 1; the number of shards permutes a whole stream.

    Example:
        >>> order = np.concatenate(list(epoch_order(0, 0, shard_sizes=(4, 4, 4, 4), streams=2, window=2)))
        >>> order.tolist()
        [8, 7, 3, 5, 9, 4, 2, 12, 0, 13, 11, 15, 10, 6, 1, 14]
    """
    starts = np.concatenate([[0], np.cumsum(shard_sizes, dtype=np.int64)])
    live = [
        (np.empty(0, np.int64), _stream_rows(shards, starts, window, f"{seed}/{epoch}/{stream}"))
        for stream, shards in enumerate(deal_shards(seed, shard_sizes, streams))
    ]
    while True:
        refilled = [(rows if len(rows) else next(stream, None), stream) for rows, stream in live]
        live = [(rows, stream) for rows, stream in refilled if rows is not None]
        if not live:
            return
        rounds = min(len(rows) for rows, _ in live)
        yield np.stack([rows[:rounds] for rows, _ in live], axis=1).reshape(-1)
        live = [(rows[rounds:], stream) for rows, stream in live]


def deal_shards(seed: int, shard_sizes: Sequence[int], streams: int) -> list[list[int]]:
    """Give every shard to one of the streams, evenly by samples: in random order, each to the shortest stream."""
    dealt: list[list[int]] = [[] for _ in range(streams)]
    shortest = [(0, stream) for stream in range(streams)]
    for shard in permutation(len(shard_sizes), f"{seed}/deal").tolist():
        num_samples, stream = heapq.heappop(shortest)
        dealt[stream].append(shard)
        heapq.heappush(shortest, (num_samples + shard_sizes[shard], stream))
    return dealt


def global_batches(order: Iterator[Int64[ndarray, "n"]], batch_size: int) -> Iterator[Int64[ndarray, "G"]]:
    """Cut an order into batches of `batch_size` rows; the last partial batch is dropped (callers count it)."""
    pending = np.empty(0, np.int64)
    for rows in order:
        pending = np.concatenate([pending, rows])
        whole = len(pending) // batch_size * batch_size
        yield from pending[:whole].reshape(-1, batch_size)
        pending = pending[whole:]


def _stream_rows(
    shards: Sequence[int], starts: Int64[ndarray, "s"], window: int, identity: str
) -> Iterator[Int64[ndarray, "n"]]:
    order = [shards[i] for i in permutation(len(shards), f"{identity}/shards").tolist()]
    for first in range(0, len(order), window):
        rows = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in order[first : first + window]])
        if len(rows):
            yield rows[permutation(len(rows), f"{identity}/{first}")]
