"""Write a store again with its parts in the other format, zarr or webdataset; the numbers stay the same."""

from __future__ import annotations

import argparse
from typing import get_args

from pld.progress import progress
from pld.store import FormatName, open_store
from pld.store.maintain.convert import convert_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("store", help="the store to read")
    parser.add_argument("out", help="the store to write; an interrupted conversion resumes")
    parser.add_argument("--format", required=True, choices=get_args(FormatName), help="of the new store's parts")


def execute(arguments: argparse.Namespace) -> None:
    """Convert it."""
    with progress(open_store(arguments.store).stats.num_rows, f"writing {arguments.out}", "view") as bar:
        convert_store(arguments.store, arguments.out, arguments.format, bar.update)
    store = open_store(arguments.out)
    print(f"{arguments.out}: {store.num_views} views, {store.num_bytes:,} bytes, {arguments.format}")
