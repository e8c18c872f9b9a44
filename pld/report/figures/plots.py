"""Plots of a store for its page, as SVG text."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pld.report.measures.agreement import RankAgreement
from pld.store import PartStats, Store
from pld.store.format.stats import BINS_PER_OCTAVE

_BLUE = "#4c78a8"

# Text stays text, and ids do not change from one run to the next.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pld",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.25,
}


def tail_mass_histogram(stats: PartStats) -> str:
    """Share of the sample-views whose mass outside S lies in each quarter of an octave."""
    with plot(6.4, 3.0) as (figure, axes):
        edges = [2.0 ** (index / BINS_PER_OCTAVE) for index, _ in stats.tail_bins]
        lower = [edge * 2 ** (-1 / BINS_PER_OCTAVE) for edge in edges]
        shares = [100 * count / stats.num_rows for _, count in stats.tail_bins]
        axes.bar(lower, shares, width=np.subtract(edges, lower), align="edge", color=_BLUE)
        axes.set_xscale("log")
        for value, name, style in (
            (stats.mean_tail_mass, "mean", "-"),
            (stats.tail_mass_quantile(0.95), "95 % are below", "--"),
        ):
            axes.axvline(value, color="black", linewidth=1, linestyle=style, label=f"{name} {value:.3g}")
        label = "" if stats.num_correct is None else " and the label"
        axes.set(xlabel=f"probability outside the top k{label}", ylabel="sample-views, %")
        axes.legend(frameon=False)
        return svg(figure)


def agreement_curves(agreement: RankAgreement) -> str:
    """How alike two views' rankings are, against how many ranks are looked at."""
    with plot(6.4, 3.0) as (figure, axes):
        ranks = np.arange(1, len(agreement.same) + 1)
        axes.plot(ranks, 100 * agreement.overlap, marker="o", markersize=4, label="classes in common")
        axes.plot(ranks, 100 * agreement.same, marker="s", markersize=4, label="the same set")
        axes.set(xticks=ranks, ylim=(0, 103), ylabel="%", xlabel="r most probable classes of two views of one image")
        axes.legend(frameon=False)
        return svg(figure)


def coverage_map(store: Store) -> str:
    """Shards from left to right, blocks of views from top to bottom, each part in the colour of its state."""
    names = ("not cached yet", "lost", "committed", "committed and sealed")
    colours = ("#dddddd", "#d62728", "#9ecae1", _BLUE)
    layout, parts = store.layout, [store.manifest.parts(block) for block in store.layout.blocks]
    sealed = np.array([[block in layout.sealed] for block in layout.blocks])
    committed = np.array([[part in layout.committed for part in row] for row in parts])
    states = 2 * committed + sealed
    with plot(6.4, 1.3 + 0.25 * len(layout.blocks), grid=False) as (figure, axes):
        palette = matplotlib.colors.ListedColormap(colours)
        axes.pcolormesh(states, cmap=palette, vmin=-0.5, vmax=3.5, rasterized=True)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_yticks(np.arange(len(layout.blocks)) + 0.5, [f"{block.first}-{block.last}" for block in layout.blocks])
        axes.set(xlabel=f"{len(store.manifest.shards):,} image shards", ylabel="views")
        used = [Patch(color=colours[state], label=names[state]) for state in np.unique(states)]
        figure.legend(handles=used, loc="outside upper left", ncols=4, frameon=False, fontsize=9)
        return svg(figure)


@contextlib.contextmanager
def plot(width: float, height: float, *, grid: bool = True) -> Iterator[tuple[Figure, Axes]]:
    """An empty plot of so many inches, to draw and to turn into text in the house's style."""
    with matplotlib.rc_context({**_STYLE, "axes.grid": grid}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def svg(figure: Figure) -> str:
    """The figure as an <svg>, without the XML before it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
