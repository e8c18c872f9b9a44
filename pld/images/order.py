"""The order of an epoch: a pure function, independent of world size, workers and where a run resumed."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from pld.randomness import permutation


def epoch_order(
    seed: int,
    epoch: int,
    shard_sizes: Sequence[int],
    streams: int,
    window: int,
    partners: Int64[ndarray, "N"] | None = None,
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
        partners: what each row is mixed with. Pairs are then neighbours, at positions 2 p and 2 p + 1 nearly always,
            and a stream gives two rows at a time; partners from other shards leave no stream its own shards.

    Example:
        >>> order = np.concatenate(list(epoch_order(0, 0, shard_sizes=(4, 4, 4, 4), streams=2, window=2)))
        >>> order.tolist()
        [8, 7, 3, 5, 9, 4, 2, 12, 0, 13, 11, 15, 10, 6, 1, 14]
    """
    starts = np.concatenate([[0], np.cumsum(shard_sizes, dtype=np.int64)])
    dealt = deal_shards(seed, shard_sizes, streams)
    windows = [_stream_rows(shards, starts, window, f"{seed}/{epoch}/{stream}") for stream, shards in enumerate(dealt)]
    if partners is None:
        yield from _interleave(windows, 1)
        return
    shard = np.repeat(np.arange(len(shard_sizes)), shard_sizes)
    if np.array_equal(shard[partners], shard):
        yield from _interleave([_pair_windows(rows, partners) for rows in windows], 2)
        return
    rows = list(_interleave(windows, 1))
    if rows:
        yield pair_up(np.concatenate(rows), partners)


def pair_up(rows: Int64[ndarray, "n"], partners: Int64[ndarray, "N"]) -> Int64[ndarray, "n"]:
    """The same rows with pairs together, each where its first row was; at the end what is no pair.

    Args:
        rows: distinct, and each one's partner among them.
        partners: of all rows there are, as `MixingPlan.partners` gives them.
    """
    own = np.arange(len(rows))
    place = np.empty(len(partners), np.int64)
    place[rows] = own
    partner = place[partners[rows]]
    first = np.minimum(own, partner)
    np.minimum.at(first, partner, own)  # three that go round are found from either side
    is_pair = (partner[partner] == own) & (partner != own)
    return rows[np.lexsort((first, ~is_pair))]


def _interleave(streams: Sequence[Iterator[Int64[ndarray, "n"]]], together: int) -> Iterator[Int64[ndarray, "n"]]:
    """Rows of the streams in turn, `together` of each; at the end what is left of streams that have fewer."""
    live = [(np.empty(0, np.int64), stream) for stream in streams]
    rest = []
    while True:
        refilled = [(_refill(rows, stream, together), stream) for rows, stream in live]
        rest += [rows for rows, _ in refilled if 0 < len(rows) < together]
        live = [(rows, stream) for rows, stream in refilled if len(rows) >= together]
        if not live:
            break
        rounds = min(len(rows) for rows, _ in live) // together
        taken = [rows[: rounds * together].reshape(rounds, together) for rows, _ in live]
        yield np.stack(taken, axis=1).reshape(-1)
        live = [(rows[rounds * together :], stream) for rows, stream in live]
    if rest:
        yield np.concatenate(rest)


def _refill(rows: Int64[ndarray, "n"], stream: Iterator[Int64[ndarray, "n"]], together: int) -> Int64[ndarray, "m"]:
    """At least `together` rows, while the stream has them."""
    while len(rows) < together and (following := next(stream, None)) is not None:
        rows = np.concatenate([rows, following]) if len(rows) else following
    return rows


def _pair_windows(
    windows: Iterator[Int64[ndarray, "n"]], partners: Int64[ndarray, "N"]
) -> Iterator[Int64[ndarray, "n"]]:
    """A stream's windows with pairs together, which begin at its even positions."""
    is_odd = False
    for rows in windows:
        paired = pair_up(rows, partners)
        # Behind an odd number of rows: one pair is given up, so that all others are two at a time.
        yield np.roll(paired, -1) if is_odd else paired
        is_odd ^= len(rows) % 2 == 1


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
