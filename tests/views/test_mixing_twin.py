"""The mixing of pld/store/FORMAT.md, written again from its text in plain Python, one sample at a time."""

import hashlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld.views import CutMix, Mixing, MixingPlan, Mixup
from pld.views.mixing import BLENDED, OWN_IN_BOX, PARTNER_IN_BOX, UNMIXED

BELOW = 2**64


def f(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % BELOW
    x = (x ^ x >> 27) * 0x94D049BB133111EB % BELOW
    return x ^ x >> 31


def bits(key, seed, view, j):
    h = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
    of_view = hashlib.blake2b(f"mix:{seed}/{view}".encode(), digest_size=16).digest()
    a, b = (int.from_bytes(half, "little") for half in (of_view[:8], of_view[8:]))
    return f((f(h ^ a) + (j + 1) * 0x9E3779B97F4A7C15) % BELOW ^ b)


def u(key, seed, view, j):
    return (bits(key, seed, view, j) >> 11) / 2**53


def partners_of(pool, seed, view):
    """Who is mixed with whom, by key, of one pool's keys."""
    order = sorted(pool, key=lambda key: bits(key, seed, view, 0))
    num_pairs = (len(order) - 3) // 2 if len(order) % 2 else len(order) // 2
    found = {}
    for i in range(max(num_pairs, 0)):
        first, second = order[2 * i : 2 * i + 2]
        found |= {first: second, second: first}
    if len(order) % 2 and len(order) > 1:
        a, b, c = order[-3:]
        found |= {a: b, b: c, c: a}
    return found


def share_and_box(key, seed, view, steps):
    """Which step it is, the share, the box, and whether the sample's own pixels are in it."""
    name, alpha = steps[bits(key, seed, view, 1) >> 63] if len(steps) == 2 else steps[0]
    j = 4
    while True:
        x, y = (u(key, seed, view, j + i) ** (1 / alpha) for i in (0, 1))
        if 0 < x + y <= 1:
            break
        j += 2
    share = round(x / (x + y) * 2**16) / 2**16
    box = (0.0, 0.0, 0.0, 0.0)
    if name == "cutmix":
        r, y, x = math.sqrt(1 - share) / 2, u(key, seed, view, 2), u(key, seed, view, 3)
        box = tuple(min(max(side, 0.0), 1.0) for side in (y - r, x - r, y + r, x + r))
        share = 1 - (box[2] - box[0]) * (box[3] - box[1])
    swap = share < 1 / 2
    return name, 1 - share if swap else share, box, swap


def slow_mixing(pools, skipped, steps, seed, view):
    """{key: (partner, share, kind, box)} of all samples of some pools."""
    found = {}
    for pool in pools:
        partners = partners_of(pool, seed, view)
        for key in pool:
            partner = partners.get(key)
            if partner is None or partner in skipped:
                found[key] = (key, 1.0, UNMIXED, (0.0,) * 4)
                continue
            name, share, box, swap = share_and_box(key, seed, view, steps)
            kind = BLENDED if name == "mixup" else OWN_IN_BOX if swap else PARTNER_IN_BOX
            found[key] = (partner, share, kind, box)
    return found


def plan_of(pools, skipped, steps, seed):
    keys = [key for pool in pools for key in pool]
    made = tuple({"mixup": Mixup, "cutmix": CutMix}[name](alpha=alpha) for name, alpha in steps)
    return keys, MixingPlan(
        np.array([key.encode() for key in keys], dtype=np.bytes_),
        np.repeat(np.arange(len(pools)), [len(pool) for pool in pools]),
        made,
        seed=seed,
        left_out=np.array([key in skipped for key in keys], dtype=bool),
    )


def compare(pools, skipped, steps, seed, view):
    keys, plan = plan_of(pools, skipped, steps, seed)
    wanted = slow_mixing(pools, skipped, steps, seed, view)
    found = plan.mixing(view, np.arange(len(keys)))
    for row, key in enumerate(keys):
        partner, share, kind, box = wanted[key]
        assert keys[found.partners[row]] == partner
        assert found.kinds[row] == kind
        assert found.shares[row] == share
        assert found.boxes[row].tolist() == list(box)
    return found


alphas = st.floats(0.05, 2.0)
one_or_both = st.one_of(
    st.tuples(st.tuples(st.sampled_from(["mixup", "cutmix"]), alphas)),
    st.tuples(st.tuples(st.just("mixup"), alphas), st.tuples(st.just("cutmix"), alphas)),
    st.tuples(st.tuples(st.just("cutmix"), alphas), st.tuples(st.just("mixup"), alphas)),
)


@given(
    st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), max_size=24, unique=True),
    st.lists(st.integers(0, 24), max_size=3),
    st.integers(0, 99),
    one_or_both,
    st.integers(0, 2**64 - 1),
    st.integers(0, 10**6),
)
def test_the_plan_is_that_of_the_format(keys, cuts, which, steps, seed, view):
    """For any keys, pools, skipped samples, steps, seed and view."""
    cuts = sorted({0, len(keys), *(min(cut, len(keys)) for cut in cuts)})
    pools = [keys[first:last] for first, last in itertools.pairwise(cuts)]
    skipped = {key for place, key in enumerate(keys) if (place + which) % 7 == 0}
    compare(pools, skipped, steps, seed, view)


@pytest.mark.parametrize("steps", [(("mixup", 0.8),), (("cutmix", 1.0),), (("mixup", 0.2), ("cutmix", 1.0))])
def test_many_samples_of_many_views(steps):
    """Enough of them for every kind, both swaps and repeated rejections to occur."""
    pools = [[f"n{shard:02d}/{index}" for index in range(size)] for shard, size in enumerate((101, 100, 3, 2, 1))]
    views = [compare(pools, {"n00/7"}, steps, 5, view) for view in range(4)]
    both = Mixing.stack(views)
    assert set(both.kinds.flat) == {UNMIXED} | {
        kind for name, _ in steps for kind in ([BLENDED] if name == "mixup" else [OWN_IN_BOX, PARTNER_IN_BOX])
    }
    assert both.shares.min() >= 0.5
    unmixed = (both.kinds == UNMIXED).sum(axis=0)
    assert unmixed.tolist() == [2] * 4  # the one alone, and the skipped sample's partner


def test_a_pool_of_its_own_order():
    """The pairing knows keys, not places: the same samples in another order have the same partners."""
    keys = [f"key {index}" for index in range(11)]
    forward, backward = (slow_mixing([each], (), (("mixup", 0.8),), 0, 0) for each in (keys, keys[::-1]))
    assert forward == backward
    compare([keys[::-1]], (), (("mixup", 0.8),), 0, 0)
