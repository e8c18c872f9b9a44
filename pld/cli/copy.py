"""`pld push`, `pld pull` and `pld card`: copy a store with its card, which run again goes on; write the card."""

from __future__ import annotations

import argparse
import re

from pld.errors import ConfigError
from pld.progress import progress
from pld.report.card import CARD_NAME, card_license, dataset_card, is_generated, read_card, write_card
from pld.store import open_store
from pld.store.maintain.transfer import transfer
from pld.store.objects.open import open_storage
from pld.store.objects.storage import Storage


def add_push_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pld push`."""
    parser.add_argument("store", help="a store's folder")
    parser.add_argument("url", help="where to: s3://BUCKET/STORE, gs://..., or any other that fsspec writes; a folder")
    _add_views(parser)
    _add_license(parser)


def push(arguments: argparse.Namespace) -> None:
    """Copy a store to a URL and write its card there; run again, it goes on where it was."""
    source, destination = _copy_store(arguments.store, arguments.url, arguments.views)
    store, text = open_store(arguments.url), read_card(source)
    if is_generated(text) and store.num_views:
        text = dataset_card(store, arguments.license, store.url)
    if text is not None and not write_card(destination, text):
        print(f"{store.url}/{CARD_NAME} was not written by pld and stays as it is")


def add_pull_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pld pull`."""
    parser.add_argument("url", help="where from: s3://BUCKET/STORE, hf://datasets/USER/STORE, https://..., a folder")
    parser.add_argument("store", help="the folder to write")
    _add_views(parser)


def pull(arguments: argparse.Namespace) -> None:
    """Copy a store, or some of its views, from a URL to a folder; run again, it goes on where it was."""
    source, destination = _copy_store(arguments.url, arguments.store, arguments.views)
    text, copy = read_card(source), open_store(arguments.store)
    # A card's figures are of the views that are there.
    if text is not None and is_generated(text) and 0 < copy.num_views != open_store(arguments.url).num_views:
        text = dataset_card(copy, card_license(text), source.url)
    if text is not None:
        write_card(destination, text)


def add_card_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pld card`."""
    parser.add_argument("store", help="a store's folder or URL")
    _add_license(parser)
    parser.add_argument(
        "--url", help="where readers will find the store, for the examples (default: the store's place)"
    )


def card(arguments: argparse.Namespace) -> None:
    """Write a store's card: README.md beside it, a valid Hugging Face dataset card; no other README is replaced."""
    store = open_store(arguments.store)
    text = dataset_card(store, arguments.license, arguments.url or store.url)
    if write_card(open_storage(arguments.store), text):
        print(f"card: {store.url}/{CARD_NAME}")
    else:
        print(f"{store.url}/{CARD_NAME} was not written by pld and stays as it is; move it away to have one made")


def _add_views(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--views", help="only the blocks that hold these views, such as 0-7, from the first view on (default: all)"
    )


def _add_license(parser: argparse.ArgumentParser) -> None:
    """The option that the card needs from its author."""
    parser.add_argument(
        "--license",
        type=_identifier,
        default="unknown",
        help="the licence's identifier on the hub, such as cc-by-4.0 (default: unknown)",
    )


def _copy_store(source_url: str, destination_url: str, views: str | None) -> tuple[Storage, Storage]:
    """Copy what is not there yet, with a progress bar and a summary; returns both places."""
    source, destination = open_storage(source_url), open_storage(destination_url)
    plan, copies = transfer(source, destination, parse_views(views) if views is not None else None)
    if plan.num_held:
        print(f"{destination.url}: {plan.num_held} parts are there already")
    if plan.num_missing:
        print(f"{source.url}: {plan.num_missing} parts are not cached yet")
    num_bytes = 0
    with progress(len(plan.parts), f"copying to {destination.url}", "part") as bar:
        for part_bytes in copies:
            num_bytes += part_bytes
            bar.set_postfix_str(f"{num_bytes / 1e6:,.1f} MB", refresh=False)
            bar.update()
    complete = open_store(destination_url).num_views
    print(
        f"{destination.url}: {len(plan.parts)} parts copied, {num_bytes:,} bytes; {complete} views are complete there"
    )
    return source, destination


def parse_views(text: str) -> range:
    """The views that --views names; raises ConfigError."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise ConfigError(f"--views {text}: wanted a view such as 3, or a range such as 0-7")
    return range(int(match[1]), int(match[2] or match[1]) + 1)


def _identifier(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted an identifier such as cc-by-4.0, apache-2.0 or other")
    return text
