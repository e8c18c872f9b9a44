"""Give up a store's last views, to free their bytes."""

from __future__ import annotations

import argparse
import sys

from pld.cli.copy import parse_views
from pld.errors import ConfigError
from pld.progress import progress
from pld.report.card import card_license, dataset_card, is_generated, read_card, write_card
from pld.store import open_store
from pld.store.documents.manifest import read_manifest
from pld.store.maintain.give_up import Loss, give_up, plan_loss
from pld.store.objects.open import open_storage
from pld.store.objects.storage import Storage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("store", help="a store's folder or URL")
    parser.add_argument("--views", required=True, help="the last views, in whole blocks, such as 8-15")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def execute(arguments: argparse.Namespace) -> None:
    """Say what will be lost, ask, and delete it."""
    storage = open_storage(arguments.store)
    manifest = read_manifest(storage)
    loss = plan_loss(storage, manifest, parse_views(arguments.views))
    print(f"{storage.url}: {_describe(loss)}")
    if not arguments.yes and not _confirmed():
        print("nothing was deleted")
        return
    with progress(len(loss.objects), f"deleting from {storage.url}", "object") as bar:
        give_up(storage, manifest, loss, bar.update)
    _renew_card(storage, arguments.store)
    print(f"{storage.url}: views 0-{loss.blocks[-1].first - 1} are left")


def _describe(loss: Loss) -> str:
    first, last = loss.blocks[-1].first, loss.blocks[0].last
    unfinished = ""
    if loss.num_parts < loss.num_planned:
        unfinished = (
            f"\n{loss.num_planned - loss.num_parts} of their {loss.num_planned} parts are not cached yet: if a "
            "cache-teacher is at work on them, stop it first"
        )
    return (
        f"gives up views {first}-{last}: {loss.num_parts:,} parts, {loss.num_bytes:,} bytes. Only the teacher can make "
        f"them again. A training run that reads them stops with an error{unfinished}"
    )


def _confirmed() -> bool:
    """Whether the user says yes; raises ConfigError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask whether to delete this; nothing was deleted. Give --yes")
    try:
        return input("delete them? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _renew_card(storage: Storage, url: str) -> None:
    """Bring the store's card up to date, if pld wrote it."""
    text, store = read_card(storage), open_store(url)
    if text is not None and is_generated(text) and store.num_views:
        write_card(storage, dataset_card(store, card_license(text), store.url))
