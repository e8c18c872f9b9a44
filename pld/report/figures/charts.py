"""Charts of runs for their page, with the spread over seeds, as SVG text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from pld.report.figures.plots import plot, svg
from pld.report.statistics import estimate

# As wide as a phone, so that letters keep their size on it.
_WIDTH_INCHES = 5.0
# More of them, named each, would write over each other.
_MAX_TICKS = 7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a chart.

    Attributes:
        label: in the legend.
        points: x and, for each seed, y.
    """

    label: str
    points: Sequence[tuple[float, Sequence[float]]]


def line_chart(lines: Sequence[Line], xlabel: str, ylabel: str, *, logarithmic: bool = False) -> str:
    """Means as lines, from the lowest to the highest seed as bands."""
    with plot(_WIDTH_INCHES, 3.4) as (figure, axes):
        for line in lines:
            x, y = zip(*line.points, strict=True)
            (drawn,) = axes.plot(x, [np.mean(values) for values in y], marker="o", markersize=3, label=line.label)
            bands = [min(values) for values in y], [max(values) for values in y]
            axes.fill_between(x, *bands, color=drawn.get_color(), alpha=0.15, linewidth=0)
        if logarithmic:
            axes.set_xscale("log")
            ticks = sorted({x for line in lines for x, _ in line.points})
            if len(ticks) <= _MAX_TICKS:
                axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                axes.minorticks_off()
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=8)
        return svg(figure)


def dot_chart(values: Mapping[str, Sequence[float]], xlabel: str) -> str:
    """A row for each label: every seed as a dot, the mean as a bar across, its 95 % interval as a line."""
    with plot(_WIDTH_INCHES, 0.8 + 0.36 * len(values)) as (figure, axes):
        for place, seeds in enumerate(values.values()):
            found = estimate(seeds)
            if found.num > 1:
                axes.plot([found.low, found.high], [place, place], color="0.4", linewidth=1.5)
            axes.plot(seeds, [place] * len(seeds), "o", color="#4c78a8", markersize=4, alpha=0.7)
            axes.plot(found.mean, place, "|", color="black", markersize=14, markeredgewidth=2)
        axes.set_yticks(range(len(values)), list(values))
        axes.set_ylim(len(values) - 0.4, -0.6)
        axes.set_xlabel(xlabel)
        return svg(figure)
