"""Say what a store holds, and how good it is."""

from __future__ import annotations

import argparse

from pld.report.table import as_text, store_rows
from pld.store import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("store", help="a store's folder")


def execute(arguments: argparse.Namespace) -> None:
    """Print its figures, from the manifest and the commits alone."""
    store = open_store(arguments.store)
    teacher, views = store.manifest.identity.teacher, store.manifest.identity.views
    rows = [
        ("weights' sha256", teacher.weights_sha256),
        ("views drawn by", f"{views.policy}, seed {views.seed}"),
        *store_rows(store),
    ]
    print(as_text(("store", store.url), rows))
