import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld.images.order import deal_shards, epoch_order, global_batches

GOLDEN_ORDER = [0, 6, 1, 5, 4, 7, 3, 13, 2, 12, 9, 11, 10, 8]

shards = st.lists(st.integers(0, 40), min_size=1, max_size=12)


def rows_of(*arguments):
    parts = list(epoch_order(*arguments))
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


@given(shards, st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**40), st.integers(0, 400))
def test_every_row_once(shard_sizes, streams, window, seed, epoch):
    rows = rows_of(seed, epoch, shard_sizes, streams, window)
    assert sorted(rows.tolist()) == list(range(sum(shard_sizes)))
    assert np.array_equal(rows, rows_of(seed, epoch, shard_sizes, streams, window))


@given(shards, st.integers(1, 6))
def test_a_position_comes_from_its_stream_while_all_last(shard_sizes, streams):
    dealt = deal_shards(3, shard_sizes, streams)
    starts = np.concatenate([[0], np.cumsum(shard_sizes)])
    stream_of = {
        row: s for s, mine in enumerate(dealt) for shard in mine for row in range(starts[shard], starts[shard + 1])
    }
    shortest = min(sum(shard_sizes[shard] for shard in mine) for mine in dealt)
    rows = rows_of(3, 0, shard_sizes, streams, 2)
    assert [stream_of[row] for row in rows[: shortest * streams]] == [p % streams for p in range(shortest * streams)]


@given(shards, st.integers(1, 6), st.integers(1, 4))
def test_a_stream_finishes_each_window_of_whole_shards(shard_sizes, streams, window):
    assert_windows_are_finished(rows_of(1, 5, shard_sizes, streams, window), shard_sizes, streams, window)


def assert_windows_are_finished(rows, shard_sizes, streams, window):
    """Of an order with seed 1: each stream visits at most `window` shards before it has finished them."""
    shard_of = np.repeat(np.arange(len(shard_sizes)), shard_sizes)
    for mine in deal_shards(1, shard_sizes, streams):
        unfinished: dict[int, int] = {}
        in_window: set[int] = set()
        for shard in (int(shard_of[row]) for row in rows if shard_of[row] in mine):
            unfinished[shard] = unfinished.get(shard, shard_sizes[shard]) - 1
            in_window.add(shard)
            assert len(in_window) <= window
            if not any(unfinished.values()):
                in_window.clear()
        assert not in_window


def test_epochs_and_seeds_differ():
    sizes = [50] * 8
    orders = [tuple(rows_of(seed, epoch, sizes, 4, 2)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


def test_streams_keep_their_shards_in_every_epoch():
    assert deal_shards(0, [10] * 9, 4) == deal_shards(0, [10] * 9, 4)
    lengths = [len(mine) for mine in deal_shards(0, [10] * 9, 4)]
    assert sorted(lengths) == [2, 2, 2, 3]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_a_global_batch(world):
    sizes = [13, 7, 29, 11, 5]
    batches = list(global_batches(epoch_order(0, 0, sizes, 4, 2), 8))
    assert len(batches) == sum(sizes) // 8
    shares = [[batch[rank::world] for batch in batches] for rank in range(world)]
    for number, batch in enumerate(batches):
        joined = np.empty_like(batch)
        for rank in range(world):
            joined[rank::world] = shares[rank][number]
        assert np.array_equal(joined, batch)
    assert len(set(itertools.chain.from_iterable(b.tolist() for b in batches))) == len(batches) * 8


def test_golden_order():
    """The order is a contract: a resumed run must see what the interrupted one would have seen."""
    assert rows_of(0, 0, [5, 3, 6], 2, 1).tolist() == GOLDEN_ORDER


def test_fourteen_million_samples_take_little_memory():
    tracemalloc.start()
    assert sum(map(len, epoch_order(0, 0, [1273] * 11_000, 64, 8))) == 1273 * 11_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
