"""List the stores and runs below a folder or URL: what they are of, how far they are, and their state."""

from __future__ import annotations

import argparse

from pld.report.listing.find import DEPTH, find_places
from pld.report.listing.runs import RUN_COLUMNS, run_row
from pld.report.listing.stores import STORE_COLUMNS, store_row
from pld.report.listing.text import one_line
from pld.report.table import as_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "place", nargs="?", default=".", help=f"a folder, searched {DEPTH} folders deep, or a URL (default: .)"
    )


def execute(arguments: argparse.Namespace) -> None:
    """Print a table of stores, a table of runs, and what could not be looked into."""
    places = find_places(arguments.place)
    stores = [store_row(place) for place in places if place.kind == "store"]
    runs = [run_row(place) for place in places if place.kind == "run"]
    closed = [f"{one_line(p.name)}: cannot be looked into: {p.reason}" for p in places if p.kind == "unreadable"]
    tables = [as_text(columns, rows) for columns, rows in ((STORE_COLUMNS, stores), (RUN_COLUMNS, runs)) if rows]
    blocks = [*tables, *(["\n".join(closed)] if closed else [])]
    print("\n\n".join(blocks) or f"{arguments.place}: found no store or run here, nor {DEPTH} folders deep")
