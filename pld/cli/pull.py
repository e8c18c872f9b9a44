"""Copy a store, or some of its views, from a URL to a folder; run again, it goes on where it was."""

from __future__ import annotations

import argparse

from pld.cli.copying import add_views, copy_store
from pld.report.card import card_license, dataset_card, is_generated, read_card, write_card
from pld.store import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("url", help="where from: s3://BUCKET/STORE, hf://datasets/USER/STORE, https://..., a folder")
    parser.add_argument("store", help="the folder to write")
    add_views(parser)


def execute(arguments: argparse.Namespace) -> None:
    """Copy what is not there, and the store's card."""
    source, destination = copy_store(arguments.url, arguments.store, arguments.views)
    text, copy = read_card(source), open_store(arguments.store)
    # A card's figures are of the views that are there.
    if text is not None and is_generated(text) and 0 < copy.num_views != open_store(arguments.url).num_views:
        text = dataset_card(copy, card_license(text), source.url)
    if text is not None:
        write_card(destination, text)
