"""Draw the paper's loss surfaces: PLD at four temperatures, and DIST."""

from __future__ import annotations

import argparse
from pathlib import Path

from pld.cli.arguments import local_path
from pld.errors import ConfigError
from pld.extras import needs_extra
from pld.files import writing
from pld.report.measures.landscape import caption, paper_surfaces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--out", type=local_path, default=Path("landscape.png"), help="the picture (default: landscape.png)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the teacher and the directions (default: 0)")
    parser.add_argument("--classes", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--steps", type=int, default=61, help="grid points along each direction (default: 61)")


def execute(arguments: argparse.Namespace) -> None:
    """Compute the surfaces, print their ranges, draw them."""
    with needs_extra("report", "the picture"):
        from pld.report.figures.landscape import SUFFIXES, write_surfaces
    if arguments.out.suffix not in SUFFIXES:
        raise ConfigError(f"--out {arguments.out}: wanted a name ending in {', '.join(SUFFIXES)}")
    points, surfaces = paper_surfaces(arguments.classes, arguments.seed, arguments.steps)
    for name, values in surfaces.items():
        i, j = divmod(int(values.argmin()), len(points))
        least, most = float(values.min()), float(values.max())
        print(f"{name:12s} {least:.4f} to {most:.4f}, lowest at a = {points[i]:.2f}, b = {points[j]:.2f}")
    with writing(arguments.out):
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_surfaces(arguments.out, surfaces, points, caption=caption(arguments.classes, arguments.seed))
    print(f"picture: {arguments.out}")
