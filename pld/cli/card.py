"""Write a store's card: README.md beside it, a valid Hugging Face dataset card."""

from __future__ import annotations

import argparse
import re

from pld.report.card import CARD_NAME, dataset_card, write_card
from pld.store import open_store
from pld.store.objects.open import open_storage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("store", help="a store's folder or URL")
    add_license(parser)
    parser.add_argument(
        "--url", help="where readers will find the store, for the examples (default: the store's place)"
    )


def add_license(parser: argparse.ArgumentParser) -> None:
    """The option that the card needs from its author."""
    parser.add_argument(
        "--license",
        type=_identifier,
        default="unknown",
        help="the licence's identifier on the hub, such as cc-by-4.0 (default: unknown)",
    )


def execute(arguments: argparse.Namespace) -> None:
    """Write the card, unless the store has a README that pld did not write."""
    store = open_store(arguments.store)
    text = dataset_card(store, arguments.license, arguments.url or store.url)
    if write_card(open_storage(arguments.store), text):
        print(f"card: {store.url}/{CARD_NAME}")
    else:
        print(f"{store.url}/{CARD_NAME} was not written by pld and stays as it is; move it away to have one made")


def _identifier(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted an identifier such as cc-by-4.0, apache-2.0 or other")
    return text
