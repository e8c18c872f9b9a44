"""What a few seeds can say: means with intervals, and differences paired by seed. Pure."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

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
    """The mean of one value or more, and how sure it is."""
    num, mean = len(values), statistics.mean(values)
    if num == 1:
        return Estimate(mean=mean, deviation=math.nan, half_width=math.nan, num=1)
    deviation = statistics.stdev(values)
    return Estimate(
        mean=mean, deviation=deviation, half_width=t_quantile(num - 1) * deviation / math.sqrt(num), num=num
    )


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
    def verdict(self) -> int:
        """1 where the whole interval is above 0, -1 where it is below, 0 where nothing is shown."""
        if self.estimate.low > 0:
            return 1
        return -1 if self.estimate.high < 0 else 0


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference | None:
    """Compare values by seed; None where no seed is common."""
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    differences = [a[seed] - b[seed] for seed in seeds]
    return Difference(estimate=estimate(differences), p=sign_flip_p(differences))


def sign_flip_p(differences: Sequence[float]) -> float:
    """Fisher's exact test of paired differences: two-sided p, at least 2 / 2^n; n up to some 20."""
    found = abs(sum(differences))
    sums = (sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in _signs(len(differences)))
    # Sums of the same numbers in the same order: a tolerance only for those whose signs cancel differently.
    return float(sum(abs(value) >= found * (1 - 1e-9) for value in sums) / 2 ** len(differences))


def _signs(num: int) -> itertools.product[tuple[int, ...]]:
    return itertools.product((1, -1), repeat=num)


@functools.cache
def t_quantile(degrees: int, level: float = _LEVEL) -> float:
    """The t that |Student's t| with so many degrees of freedom stays below with probability `level`; by bisection."""
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < level else (low, middle)
    return (low + high) / 2


def _within(t: float, degrees: int) -> float:
    """P(|T| <= t), the finite sums for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine2 = math.cos(angle) ** 2
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for i in range(1, (degrees - odd) // 2 + 1):
        total += term
        term *= cosine2 * (2 * i if odd else 2 * i - 1) / (2 * i + 1 if odd else 2 * i)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
