"""Plans of shards, for any units."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pld.images import ImageShard, Source
from pld.images.shards.plan import plan_shards
from pld.views import Fixed


def source(sizes, **changes):
    """Units of these sizes; nothing is read."""
    num = sum(sizes)
    made = Source(
        location="made up",
        shards=tuple(ImageShard(str(unit), size) for unit, size in enumerate(sizes)),
        keys=np.array([f"key{row}".encode() for row in range(num)], dtype="S8"),
        labels=np.arange(num),
        files=("file",),
        file_index=np.zeros(num, dtype=np.int64),
        offsets=np.zeros(num, dtype=np.int64),
        sizes=np.zeros(num, dtype=np.int64),
    )
    return dataclasses.replace(made, **changes)


def plan(reader, split="train", samples=7, settings=None):
    return plan_shards(reader, split, samples, settings)


unit_sizes = st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(sum)


@given(unit_sizes, st.integers(1, 50), st.integers(0, 300))
def test_each_row_is_read_once_and_its_unit_in_one_go(sizes, samples, done):
    found = plan(source(sizes), samples=samples)
    num = sum(sizes)
    assert sorted(found.rows.tolist()) == list(range(num))
    starts = np.cumsum([0, *sizes])
    assert sorted((int(unit[0]), len(unit)) for unit in found.units) == [
        (int(start), size) for start, size in zip(starts[:-1], sizes, strict=True) if size
    ]
    assert all((np.diff(unit) == 1).all() for unit in found.units)
    counts = np.bincount(found.shards, minlength=len(found.names)).tolist()
    assert counts == [samples] * (num // samples) + ([num % samples] if num % samples else [])
    rest = [row for rows in found.units_from(done) for row in rows.tolist()]
    assert rest == found.rows[done:].tolist()


def test_shards_are_shuffled_though_units_are_single_classes():
    found = plan(source([100] * 50), samples=500)
    classes = found.rows // 100
    for shard in range(10):
        held = classes[found.shards == shard]
        assert len(np.unique(held)) >= 48
        assert np.bincount(held).max() < 30


def test_the_digest_is_of_all_that_the_bytes_depend_on():
    reader = source([9, 3])
    plans = [
        plan(reader),
        plan(reader, split="val"),
        plan(reader, samples=8),
        plan(reader, settings={"quality": 90}),
        plan(source([3, 9])),
        plan(source([9, 3], labels=np.arange(12) + 1)),
        plan(source([9, 3], class_names=("a",))),
        plan(source([9, 3], policy=Fixed())),
    ]
    assert len({each.digest for each in plans}) == len(plans)
    assert plan(reader).digest == plans[0].digest
