"""Mixing: drawn, folded and done to pixels as timm's, with partners that are a permutation; pinned by a golden file."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from timm.data import mixup as timm_mixup

from pld.errors import ConfigError
from pld.views import CutMix, Mixing, MixingPlan, Mixup
from pld.views.mix_pixels import mix_pixels
from pld.views.mixing import BLENDED, OWN_IN_BOX, PARTNER_IN_BOX, UNMIXED
from tests.views.steps.images import image

GOLDEN = Path(__file__).parents[1] / "golden" / "mixing.json"
NUM = 20_000
LEAST_P = 2e-3  # at fixed seeds


def keys(num: int) -> np.ndarray:
    return np.array([f"n{i:08}/{i}.JPEG".encode() for i in range(num)])


def plan(num: int, *steps, seed: int = 0, pools=None) -> MixingPlan:
    return MixingPlan(keys(num), np.zeros(num, np.int64) if pools is None else pools, steps, seed=seed)


def mixing(num: int, *steps, view: int = 0, seed: int = 0) -> Mixing:
    return plan(num, *steps, seed=seed).mixing(view, np.arange(num))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 99), st.integers(0, 2**63))
def test_partners_are_a_permutation_within_pools(pools, view, seed):
    pools = np.array(pools)
    partners = plan(len(pools), Mixup(), seed=seed, pools=pools).partners(view)
    assert sorted(partners.tolist()) == list(range(len(pools)))
    assert np.array_equal(pools[partners], pools)
    sizes = Counter(pools.tolist())
    alone = np.array([sizes[pool] == 1 for pool in pools.tolist()])
    assert np.array_equal(partners == np.arange(len(pools)), alone)
    back = partners[partners] == np.arange(len(pools))
    for pool, size in sizes.items():  # pairs, and three that go round where the number is odd
        assert (~back[pools == pool]).sum() == (3 if size % 2 and size > 1 else 0)


def test_partners_are_uniform_and_new_in_each_view():
    """Each of 9 others equally often; whom a sample has had says nothing of whom it gets."""
    ten = plan(10, Mixup())
    partners = np.array([ten.partners(view) for view in range(4_000)])
    counts = np.array([np.bincount(partners[:, row], minlength=10) for row in range(10)])
    assert not counts.diagonal().any()
    assert stats.chisquare(counts[0][1:]).pvalue > LEAST_P
    following = Counter(zip(partners[:-1, 0].tolist(), partners[1:, 0].tolist(), strict=True))
    table = np.array([[following[a, b] for b in range(1, 10)] for a in range(1, 10)])
    assert stats.chi2_contingency(table).pvalue > LEAST_P


@settings(max_examples=30)
@given(st.sets(st.integers(0, 19), max_size=20))
def test_what_cannot_be_decoded_mixes_with_nobody(bad):
    left_out = np.isin(np.arange(20), list(bad))
    without = MixingPlan(keys(20), np.zeros(20, np.int64), [Mixup(), CutMix()], seed=1, left_out=left_out)
    partners, all_partners = without.partners(3), plan(20, Mixup(), CutMix(), seed=1).partners(3)
    assert np.array_equal(partners, np.where(left_out[all_partners], np.arange(20), all_partners))
    mixed = without.mixing(3, np.arange(20))
    unmixed = partners == np.arange(20)
    assert np.array_equal(mixed.kinds == UNMIXED, unmixed)
    assert (mixed.shares[unmixed] == 1).all()
    assert not mixed.boxes[unmixed].any()


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.8, 1.0, 2.0])
def test_mixups_share_is_timms_folded(alpha):
    np.random.seed(0)
    theirs, _ = timm_mixup.Mixup(mixup_alpha=alpha)._params_per_elem(NUM)
    theirs = np.rint(theirs.astype(np.float64) * 2**16) / 2**16  # ours are rounded, which shows next to 1
    ours = mixing(NUM, Mixup(alpha=alpha))
    assert (ours.kinds == BLENDED).all()
    assert stats.ks_2samp(ours.shares, np.maximum(theirs, 1 - theirs)).pvalue > LEAST_P


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_cutmixs_boxes_and_shares_are_timms(alpha):
    side = 1 << 16  # timm's are whole pixels
    np.random.seed(0)
    lams, use_cutmix = timm_mixup.Mixup(mixup_alpha=0.0, cutmix_alpha=alpha)._params_per_elem(NUM)
    assert use_cutmix.all()
    drawn = [timm_mixup.cutmix_bbox_and_lam((3, side, side), lam) for lam in lams.tolist()]
    boxes, their_shares = np.array([box for box, _ in drawn]) / side, np.array([lam for _, lam in drawn])
    ours = mixing(NUM, CutMix(alpha=alpha))
    top, left, bottom, right = ours.boxes.T
    share = np.maximum(their_shares, 1 - their_shares)
    assert stats.ks_2samp(ours.shares, share).pvalue > LEAST_P
    for found, wanted in zip((top, bottom, left, right), boxes.T, strict=True):
        assert stats.ks_2samp(found, wanted).pvalue > LEAST_P
    assert stats.ks_2samp((bottom - top) * (right - left), 1 - their_shares).pvalue > LEAST_P
    area = (bottom - top) * (right - left)
    assert set(np.unique(ours.kinds)) == {PARTNER_IN_BOX, OWN_IN_BOX}
    assert np.allclose(ours.shares, np.where(ours.kinds == OWN_IN_BOX, area, 1 - area))


def test_both_steps_take_turns_at_random():
    mixed = mixing(NUM, Mixup(alpha=0.8), CutMix())
    is_cut = mixed.kinds != BLENDED
    assert abs(is_cut.mean() - 0.5) < 4 * 0.5 / math.sqrt(NUM)
    alone = mixing(NUM, Mixup(alpha=0.8))
    assert np.array_equal(mixed.shares[~is_cut], alone.shares[~is_cut])


@given(
    st.integers(0, 50), st.integers(0, 2**63), st.sampled_from([(Mixup(),), (CutMix(),), (Mixup(alpha=0.1), CutMix())])
)
def test_the_own_share_is_the_larger_one_and_rows_do_not_matter(view, seed, steps):
    whole = plan(31, *steps, seed=seed)
    mixed = whole.mixing(view, np.arange(31))
    assert (mixed.shares >= 0.5).all()
    assert (mixed.shares <= 1).all()
    assert (mixed.boxes >= 0).all()
    assert (mixed.boxes <= 1).all()
    rows = np.array([30, 3, 3, 17])
    some = whole.mixing(view, rows)
    for name in ("partners", "shares", "kinds", "boxes"):
        assert np.array_equal(getattr(some, name), getattr(mixed[rows], name))


@pytest.mark.parametrize("alpha", [0, -1, 1e-6, 5e-324, 2.5, math.nan])
@pytest.mark.parametrize("step", [Mixup, CutMix])
def test_a_wrong_alpha_is_refused(step, alpha):
    with pytest.raises(ConfigError, match=f"view policy: {step.name}'s alpha"):
        step(alpha=float(alpha))


def one(kind: int, share: float, box=(0.0, 0.0, 0.0, 0.0)) -> Mixing:
    return Mixing(np.array([1]), np.array([share]), np.array([kind], np.int8), np.array([box]))[0]


def timms(own, other, share: float, monkeypatch, box=None) -> np.ndarray:
    """What FastCollateMixup makes of two images, the share (and the box) given."""
    collate = timm_mixup.FastCollateMixup(mixup_alpha=1.0, cutmix_alpha=1.0, mode="elem")
    lams = np.full(2, share, np.float32)
    monkeypatch.setattr(collate, "_params_per_elem", lambda num: (lams.copy(), np.full(num, box is not None)))
    monkeypatch.setattr(timm_mixup, "cutmix_bbox_and_lam", lambda *_, **__: (box, share))
    batch = [(picture.transpose(2, 0, 1), 0) for picture in (own, other)]
    return collate(batch)[0][0].numpy().transpose(1, 2, 0)


@pytest.mark.parametrize("share", [0.5, 0.5 + 2**-16, 0.61, 0.9, 1 - 2**-16])
def test_blended_pixels_are_timms(share, monkeypatch):
    own, other = image(37, 41, 0, 1), image(37, 41, 1, 3)
    out = np.empty_like(own)
    mix_pixels(own, other, one(BLENDED, share), out)
    assert np.array_equal(out, timms(own, other, share, monkeypatch))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("box", [(0, 17, 0, 41), (3, 20, 30, 41), (5, 5, 7, 9), (0, 37, 0, 41)])
def test_pasted_pixels_are_timms(box, in_place, monkeypatch):
    own, other = image(37, 41, 0, 1), image(37, 41, 1, 3)
    low, high, left, right = box
    fractions = (low / 37, left / 41, high / 37, right / 41)
    for kind, base, pasted in ((PARTNER_IN_BOX, own, other), (OWN_IN_BOX, other, own)):
        wanted = timms(base, pasted, 0.7, monkeypatch, box)
        mine = own.copy()
        out = mine if in_place else np.empty_like(own)
        mix_pixels(mine, other, one(kind, 0.7, fractions), out)
        assert np.array_equal(out, wanted)


def test_unmixed_pixels_are_the_own():
    own, other = image(9, 8, 0, 1), image(9, 8, 1, 1)
    out = np.empty_like(own)
    mix_pixels(own, other, one(UNMIXED, 1.0), out)
    assert np.array_equal(out, own)


def test_golden_mixing():
    golden = json.loads(GOLDEN.read_text())
    kinds = {"mixup": Mixup, "cutmix": CutMix}
    for case in golden:
        steps = [kinds[name](alpha=alpha) for name, alpha in case["steps"]]
        pools = np.array(case["pools"])
        planned = MixingPlan(np.array([key.encode() for key in case["keys"]]), pools, steps, seed=case["seed"])
        mixed = planned.mixing(case["view"], np.arange(len(pools)))
        assert mixed.partners.tolist() == case["partners"]
        assert mixed.kinds.tolist() == case["kinds"]
        assert mixed.shares.tolist() == case["shares"]
        assert mixed.boxes.tolist() == case["boxes"]
