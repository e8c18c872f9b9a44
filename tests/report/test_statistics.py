"""Intervals and paired tests against published quantiles, and against slow ways to the same numbers."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld.report.runs.statistics import estimate, paired_difference, sign_flip_p, t_quantile


@pytest.mark.parametrize(
    ("degrees", "published"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042)]
)
def test_students_quantiles(degrees, published):
    assert t_quantile(degrees) == pytest.approx(published, abs=6e-4)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(3.0, 2.0, (4000, 5))
    covered = [found.low <= 3.0 <= found.high for found in map(estimate, samples.tolist())]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


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


def test_only_common_seeds_are_compared():
    found = paired_difference({1: 2.0, 2: 3.5, 3: 9.0}, {1: 1.0, 2: 2.0, 4: 0.0})
    assert found.estimate.mean == 1.25
    assert found.estimate.num == 2
    assert found.p == 0.5
    assert found.verdict == 0
    assert paired_difference({1: 1.0}, {2: 1.0}) is None


def test_a_verdict_needs_the_whole_interval_on_one_side():
    base = dict.fromkeys(range(5), 0.0)
    sure = {seed: 1.0 + 0.1 * seed for seed in range(5)}
    assert paired_difference(sure, base).verdict == 1
    assert paired_difference(base, sure).verdict == -1
    assert paired_difference({0: 1.0}, {0: 0.0}).verdict == 0
