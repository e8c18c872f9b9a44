"""The order of an epoch whose images are mixed in pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld.images.order import deal_shards, epoch_order, global_batches, pair_up
from pld.views import Mixup
from pld.views.mixing import MixingPlan
from tests.images.test_order import assert_windows_are_finished
from train_student.data.batches import deal

GOLDEN_PAIRS = [0, 3, 6, 5, 1, 4, 7, 9, 12, 11, 10, 8, 2, 13]
GOLDEN_OF_ALL = [0, 13, 6, 1, 5, 10, 4, 11, 7, 8, 3, 2, 12, 9]

shards = st.lists(st.integers(0, 40), min_size=1, max_size=12)
views = st.integers(0, 20)


def partners_of(shard_sizes, view, *, pools=None, bad=()):
    num = sum(shard_sizes)
    keys = np.array([b"%d" % row for row in range(num)], dtype="S8")
    pools = np.repeat(np.arange(len(shard_sizes)), shard_sizes) if pools is None else pools
    left_out = np.isin(np.arange(num), bad)
    return MixingPlan(keys, pools, [Mixup()], seed=0, left_out=left_out).partners(view)


def order_of(*arguments):
    parts = list(epoch_order(*arguments))
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


@given(shards, st.integers(1, 9), st.integers(1, 5), views, st.booleans(), st.lists(st.integers(0, 99), max_size=5))
def test_every_row_once(shard_sizes, streams, window, view, within, bad):
    pools = None if within else np.zeros(sum(shard_sizes), np.int64)
    partners = partners_of(shard_sizes, view, pools=pools, bad=bad)
    rows = order_of(0, view, shard_sizes, streams, window, partners)
    assert sorted(rows.tolist()) == list(range(sum(shard_sizes)))


@given(st.integers(0, 60), views, st.lists(st.integers(0, 59), max_size=9))
def test_pairs_are_neighbours_and_begin_where_their_first_row_was(num, view, bad):
    partners = partners_of((num,), view, bad=bad)
    before = np.random.default_rng(view).permutation(num)
    rows = pair_up(before, partners).tolist()
    neighbours = zip(rows[::2], rows[1::2], strict=False)
    pairs = [(a, b) for a, b in neighbours if (partners[a], partners[b]) == (b, a)]
    first = [np.flatnonzero(before == a)[0] for a, _ in pairs]
    assert first == sorted(first)
    assert all(np.flatnonzero(before == b)[0] > place for place, (_, b) in zip(first, pairs, strict=True))
    both = {row for row in range(num) if partners[partners[row]] == row != partners[row]}
    assert {row for pair in pairs for row in pair} == both


@given(shards, st.integers(1, 6), views)
def test_a_stream_keeps_its_pairs_and_positions(shard_sizes, streams, view):
    """Two rows at a time of each stream in turn, while all last, so that a process has its own streams' pairs."""
    partners = partners_of(shard_sizes, view)
    dealt = deal_shards(3, shard_sizes, streams)
    starts = np.concatenate([[0], np.cumsum(shard_sizes)])
    stream_of = {
        row: s for s, mine in enumerate(dealt) for shard in mine for row in range(starts[shard], starts[shard + 1])
    }
    shortest = min(sum(shard_sizes[shard] for shard in mine) for mine in dealt) // 2 * 2
    rows = order_of(3, 0, shard_sizes, streams, 2, partners)
    assert [stream_of[row] for row in rows[: shortest * streams].tolist()] == [
        p // 2 % streams for p in range(shortest * streams)
    ]


@given(shards, st.integers(1, 6), st.integers(1, 4), views)
def test_a_stream_finishes_each_window_of_whole_shards(shard_sizes, streams, window, view):
    rows = order_of(1, 5, shard_sizes, streams, window, partners_of(shard_sizes, view))
    assert_windows_are_finished(rows.tolist(), shard_sizes, streams, window)


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("batch", [8, 12])
def test_processes_share_a_global_batch(world, batch):
    """In pairs where these can be dealt evenly; what a batch holds is the same for any number of processes."""
    sizes = [13, 7, 29, 11, 5]
    for rows in global_batches(epoch_order(0, 0, sizes, 4, 2, partners_of(sizes, 0)), batch):
        shares = [deal(rows, rank, world, in_pairs=True) for rank in range(world)]
        assert {len(share) for share in shares} == {batch // world}
        assert sorted(np.concatenate(shares).tolist()) == sorted(rows.tolist())
        if batch % (2 * world) == 0:
            joined = np.stack([share.reshape(-1, 2) for share in shares], axis=1).reshape(-1)
            assert np.array_equal(joined, rows)


@pytest.mark.parametrize(
    ("batch", "processes", "micro_batches"), [(2048, 8, 1), (2048, 8, 4), (256, 1, 1), (256, 1, 8), (64, 1, 1)]
)
@pytest.mark.parametrize("pools", ["shard", "dataset"])
def test_nearly_all_pairs_are_in_one_micro_batch(batch, processes, micro_batches, pools):
    sizes = [251] * 512
    partners = partners_of(sizes, 0, pools=None if pools == "shard" else np.zeros(sum(sizes), np.int64))
    together = total = 0
    for rows in global_batches(epoch_order(0, 0, sizes, 64, 8, partners), batch):
        for rank in range(processes):
            for share in np.split(deal(rows, rank, processes, in_pairs=True), micro_batches):
                together, total = together + int(np.isin(partners[share], share).sum()), total + len(share)
    assert together / total > 0.98


def test_golden_orders():
    """A contract, as the order without partners: a resumed run must see what the interrupted one would have seen."""
    sizes = [5, 3, 6]
    assert order_of(0, 0, sizes, 2, 1, partners_of(sizes, 0)).tolist() == GOLDEN_PAIRS
    of_all = partners_of(sizes, 0, pools=np.zeros(14, np.int64))
    assert order_of(0, 0, sizes, 2, 1, of_all).tolist() == GOLDEN_OF_ALL
