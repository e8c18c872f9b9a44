"""Means over seeds with confidence intervals, and differences paired by seed."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from pld.extras import needs_extra

_LEVEL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        deviation: their standard deviation (n - 1); nan for one value.
        half_width: half the width of Student's 95 % interval of the mean, n - 1 degrees of freedom; nan for one value.
        num: n.
    """

    mean: float
    deviation: float
    half_width: float
    num: int

    @property
    def low(self) -> float:
        """The interval's lower end."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """The interval's upper end."""
        return self.mean + self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value or more, and how sure it is; raises ConfigError where that needs scipy and lacks it."""
    num, mean = len(values), statistics.mean(values)
    if num == 1:
        return Estimate(mean=mean, deviation=math.nan, half_width=math.nan, num=1)
    with needs_extra("report", "an interval over seeds"):
        from scipy import stats
    deviation = statistics.stdev(values)
    quantile = float(stats.t.ppf((1 + _LEVEL) / 2, num - 1))
    return Estimate(mean=mean, deviation=deviation, half_width=quantile * deviation / math.sqrt(num), num=num)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """a - b over the seeds that both have.

    Attributes:
        estimate: of the differences, seed by seed.
        p: two-sided, exact: the share of all choices of signs under which the mean is at least as far from 0.
    """

    estimate: Estimate
    p: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0; False for one seed, which has no interval."""
        return self.estimate.low > 0 or self.estimate.high < 0


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference | None:
    """Compare values by seed; None where no seed is common."""
    differences = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
    return Difference(estimate=estimate(differences), p=sign_flip_p(differences)) if differences else None


def sign_flip_p(differences: Sequence[float]) -> float:
    """Fisher's exact test of paired differences: two-sided p, at least 2 / 2^n; n up to some 20."""
    values = np.asarray(differences)
    signs = np.array(list(itertools.product((1, -1), repeat=len(values))))
    sums = np.abs(signs @ values)
    # Sums that are equal on paper may differ in their last bits, which scipy.stats.permutation_test takes for unequal.
    return float((sums >= sums[0] - 1e-9 * np.abs(values).sum()).mean())
