"""Copy a store to a URL and write its card there; run again, it goes on where it was."""

from __future__ import annotations

import argparse

from pld.cli.card import add_license
from pld.cli.copying import add_views, copy_store
from pld.report.card import CARD_NAME, dataset_card, is_generated, read_card, write_card
from pld.store import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("store", help="a store's folder")
    parser.add_argument("url", help="where to: s3://BUCKET/STORE, gs://..., or any other that fsspec writes; a folder")
    add_views(parser)
    add_license(parser)


def execute(arguments: argparse.Namespace) -> None:
    """Copy what is not there, then the card: the store's own README where it has one, else a new one."""
    source, destination = copy_store(arguments.store, arguments.url, arguments.views)
    store, text = open_store(arguments.url), read_card(source)
    if is_generated(text) and store.num_views:
        text = dataset_card(store, arguments.license, store.url)
    if text is not None and not write_card(destination, text):
        print(f"{store.url}/{CARD_NAME} was not written by pld and stays as it is")
