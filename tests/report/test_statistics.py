"""Intervals and paired tests against published quantiles, and against slow ways to the same numbers."""

import itertools
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import ConfigError
from pld.report.statistics import estimate, paired_difference, sign_flip_p


@pytest.mark.parametrize(
    ("degrees", "published"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042)]
)
def test_students_quantiles(degrees, published):
    values = [1.0, -1.0] + [0.0] * (degrees - 1)
    found = estimate(values)
    assert found.half_width / found.deviation * math.sqrt(len(values)) == pytest.approx(published, abs=6e-4)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(3.0, 2.0, (4000, 5))
    covered = [found.low <= 3.0 <= found.high for found in map(estimate, samples.tolist())]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_without_scipy_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert estimate([41.5]).mean == 41.5
    with pytest.raises(ConfigError, match=r"over seeds needs scipy: pip install '.\[report\]' in a clone"):
        estimate([41.5, 42.5])


def test_one_value_has_no_spread():
    found = estimate([41.5])
    assert found.mean == 41.5
    assert math.isnan(found.low)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=7))
def test_sign_flips_counted_one_by_one(differences):
    count = 0
    for signs in itertools.product((1, -1), repeat=len(differences)):
        count += abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= abs(sum(differences))
    assert sign_flip_p([float(d) for d in differences]) == count / 2 ** len(differences)


@given(st.lists(st.tuples(st.integers(800, 900), st.integers(800, 900)), min_size=1, max_size=7))
def test_equal_sums_are_equal_whatever_their_rounding(right):
    """Top-1 of 5,000 images, in percent: the differences' sums tie often, but not to the last bit."""
    whole = sign_flip_p([float(a - b) for a, b in right])
    assert sign_flip_p([100 * a / 5000 - 100 * b / 5000 for a, b in right]) == whole


def test_only_common_seeds_are_compared():
    found = paired_difference({1: 2.0, 2: 3.5, 3: 9.0}, {1: 1.0, 2: 2.0, 4: 0.0})
    assert found.estimate.mean == 1.25
    assert found.estimate.num == 2
    assert found.p == 0.5
    assert not found.excludes_zero
    assert paired_difference({1: 1.0}, {2: 1.0}) is None


def test_a_difference_needs_the_whole_interval_on_one_side():
    base = dict.fromkeys(range(5), 0.0)
    sure = {seed: 1.0 + 0.1 * seed for seed in range(5)}
    above, below = paired_difference(sure, base), paired_difference(base, sure)
    assert above.excludes_zero
    assert below.excludes_zero
    assert above.estimate.low > 0 > below.estimate.high
    assert not paired_difference({0: 1.0}, {0: 0.0}).excludes_zero
