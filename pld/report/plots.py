"""Plots as SVG text, to stand inside a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from pld.report.runs import Run

# Text stays text, and ids do not change from one run to the next.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pld",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}


def learning_curves(runs: Sequence[Run]) -> str:
    """Validation top-1 against epoch, one line per run, named where it ends."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for run in runs:
            points = [(epoch["epoch"], epoch["top1"]) for epoch in run.epochs if "top1" in epoch]
            axes.plot(
                *zip(*points, strict=True), marker="o", markersize=3, label=f"{run.name}  {run.final['top1']:.1f}"
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation top-1, %")
        axes.legend(frameon=False, loc="lower right")
        return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
