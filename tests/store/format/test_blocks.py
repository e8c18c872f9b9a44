"""Blocks tile the views, parts are planned from names alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import ConfigError
from pld.store.format.blocks import Block, plan_blocks
from tests.store.world import World


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), min_size=1, max_size=6))
def test_blocks_grow_without_gaps_or_overlaps_and_never_change(wishes):
    blocks: list[Block] = []
    for num_views, block_views in wishes:
        grown = plan_blocks(blocks, num_views, block_views)
        assert grown[: len(blocks)] == blocks
        assert grown[-1].last + 1 >= num_views
        assert [block.first for block in grown] == [0, *(block.last + 1 for block in grown[:-1])]
        assert all(block.num_views <= block_views for block in grown[len(blocks) :])
        blocks = grown


def test_parts_come_block_by_block_in_shard_order_without_the_committed(tmp_path):
    world = World(sizes=(5, 9))
    writer = world.open_writer(tmp_path)
    world.write_part(writer, writer.missing_parts(11)[0])
    assert [(part.block.name, part.shard) for part in writer.missing_parts(11)] == [
        ("v000-009", "train-0001"),
        ("v010-010", "train-0000"),
        ("v010-010", "train-0001"),
    ]
    assert [part.commit_name for part in writer.missing_parts(10)] == ["commits/v000-009/train-0001.json"]


def test_writers_that_want_different_numbers_of_views_share_the_blocks(tmp_path):
    world = World()
    one, other = world.open_writer(tmp_path), world.open_writer(tmp_path)
    assert {part.block.name for part in one.missing_parts(4, 10)} == {"v000-003"}
    assert [part.block.name for part in other.missing_parts(8, 3)][::3] == ["v000-003", "v004-006", "v007-007"]
    assert {part.block.name for part in one.missing_parts(2, 2)} == {"v000-003"}


@pytest.mark.parametrize(("num_views", "block_views"), [(0, 10), (3, 0)])
def test_no_views_are_no_plan(tmp_path, num_views, block_views):
    with pytest.raises(ConfigError, match="at least one"):
        World().open_writer(tmp_path).missing_parts(num_views, block_views)
