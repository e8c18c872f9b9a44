"""The loss surfaces drawn: for each loss a surface and, below it, its contours with the teacher and the minimum."""

from __future__ import annotations

import base64
import html
import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor

from pld.report.measures.landscape import TITLE

_STYLE: Any = {"font.family": "sans-serif", "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "pld"}
# Perceptually even, and the same to readers with and without colour vision.
_COLOURS = "viridis"
_NUM_LEVELS = 14

SUFFIXES = (".png", ".svg", ".pdf")
# The same surfaces write the same bytes.
_UNDATED: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

Surfaces = Mapping[str, Float[Tensor, "steps steps"]]


def write_surfaces(out: Path, surfaces: Surfaces, points: Float[Tensor, "steps"], *, caption: str) -> None:
    """Draw into a file whose suffix is one of SUFFIXES, with a caption below, which is wrapped."""
    _save(surfaces, points, caption, out, dpi=110, metadata=_UNDATED.get(out.suffix))


def surfaces_image(surfaces: Surfaces, points: Float[Tensor, "steps"]) -> str:
    """The same without a caption as an <img> that holds its bytes."""
    buffer = io.BytesIO()
    _save(surfaces, points, "", buffer, format="png", dpi=75)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(TITLE)}" src="data:image/png;base64,{data}">'


@matplotlib.rc_context(_STYLE)
def _save(
    surfaces: Surfaces, points: Float[Tensor, "steps"], caption: str, out: Path | io.BytesIO, **options: Any
) -> None:
    """One column for each loss: above a surface, below its contours.

    Heights are above the surface's own minimum, which its title names. Losses whose name begins with the same word
    share one scale of height and colour.
    """
    at = points.numpy()
    heights = {name: (values - values.min()).numpy() for name, values in surfaces.items()}
    figure = Figure(figsize=(3.1 * len(surfaces), 6.7))
    figure.suptitle(TITLE, y=0.985, fontsize=12)
    figure.text(0.5, 0.015, textwrap.fill(caption, 205), ha="center", va="bottom", fontsize=9, color="0.25")
    for column, (name, height) in enumerate(heights.items()):
        top = max(float(h.max()) for other, h in heights.items() if _family(other) == _family(name))
        left, width = 0.97 * column / len(surfaces), 1 / len(surfaces)
        above = figure.add_axes((0.01 + left, 0.50, 0.96 * width, 0.39), projection="3d")
        _draw_surface(above, at, height, top, f"{name}\nminimum {float(surfaces[name].min()):.4g}")
        _draw_contours(figure.add_axes((0.03 + left, 0.145, 0.73 * width, 0.34)), at, height, top, first=column == 0)
    figure.savefig(out, **options)


def _family(name: str) -> str:
    return name.split(",")[0]


def _draw_surface(axes: Any, at: ndarray, height: ndarray, top: float, title: str) -> None:
    a, b = np.meshgrid(at, at, indexing="ij")
    axes.plot_surface(a, b, height, cmap=_COLOURS, vmin=0, vmax=top, rcount=61, ccount=61, linewidth=0)
    axes.set(zlim=(0, top))
    axes.set_title(title, y=0.99)
    axes.set_xlabel("a", labelpad=-4)
    axes.set_ylabel("b", labelpad=-4)
    axes.view_init(elev=28, azim=-58)
    axes.tick_params(labelsize=7, pad=-1)
    axes.locator_params(nbins=5)


def _draw_contours(axes: Axes, at: ndarray, height: ndarray, top: float, *, first: bool) -> None:
    levels = np.linspace(0, top, _NUM_LEVELS + 1)
    drawn = axes.contourf(at, at, height.T, levels=levels, cmap=_COLOURS)
    axes.contour(at, at, height.T, levels=levels, colors="white", linewidths=0.4, alpha=0.6)
    i, j = np.unravel_index(height.argmin(), height.shape)
    axes.plot(0, 0, "o", mfc="none", mec="white", mew=1.5, ms=9, label="teacher")
    axes.plot(at[i], at[j], "x", color="white", mew=2, ms=7, label="minimum")
    axes.set(xlabel="a", ylabel="b" if first else "", aspect="equal")
    axes.tick_params(labelsize=7)
    bar = axes.figure.colorbar(
        drawn, ax=axes, fraction=0.046, pad=0.03, ticks=levels[:: _NUM_LEVELS // 2], format="%.2g"
    )
    bar.ax.tick_params(labelsize=7)
    if first:
        axes.legend(loc="upper right", fontsize=7, facecolor="0.3", labelcolor="white", framealpha=0.8)
