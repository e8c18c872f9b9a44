"""Configurations compared over seeds, as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pld.report.sections import Table
from pld.report.statistics import Difference, estimate, paired_difference

# What is compared comes first: on a phone the rest is scrolled to.
SPREAD_COLUMNS = ("its interval", "excludes 0", "p", "mean's interval", "deviation", "seeds")


def summary_table(values: Mapping[str, Mapping[int, float]], base: str) -> Table:
    """For each label: mean, spread and interval over seeds, and the difference from `base`, paired by seed."""
    rows = [
        comparison_cells(label, own, None if label == base else paired_difference(own, values[base]))
        for label, own in values.items()
    ]
    return Table(columns=("", "mean", f"less {base}", *SPREAD_COLUMNS), rows=rows)


def comparison_cells(label: str, own: Mapping[int, float], difference: Difference | None) -> list[str]:
    """A table's row whose columns end in SPREAD_COLUMNS: a mean, a difference and how sure both are."""
    found = estimate(list(own.values()))
    deviation = f"{found.deviation:.2f}" if found.num > 1 else "-"
    spread = [interval_text(found.low, found.high), deviation, str(found.num)]
    return [label, f"{found.mean:.2f}", *_difference_cells(difference), *spread]


def _difference_cells(found: Difference | None) -> list[str]:
    if found is None:
        return ["-"] * 4
    mean, interval = f"{found.estimate.mean:+.2f}", interval_text(found.estimate.low, found.estimate.high, signed=True)
    if found.estimate.num == 1:
        return [mean, interval, "-", "-"]
    return [mean, interval, "yes" if found.excludes_zero else "no", f"{found.p:.3g}"]


def interval_text(low: float, high: float, *, signed: bool = False) -> str:
    """An interval as a cell; a dash where one seed gives none."""
    if math.isnan(low):
        return "-"
    return f"{low:+.2f} to {high:+.2f}" if signed else f"{low:.2f} to {high:.2f}"
