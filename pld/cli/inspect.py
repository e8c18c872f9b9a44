"""Say what a store holds, and how good it is."""

from __future__ import annotations

import argparse

from pld.cli.arguments import add_images, local_path, open_images
from pld.extras import needs_extra
from pld.files import write_text
from pld.report.table import as_text, store_rows, views_text
from pld.store import Store, open_store

_NUM_SAMPLES = 18


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("store", help="a store's folder or URL")
    parser.add_argument("--html", type=local_path, help="also write a page with plots here")
    add_images(parser, "the images, for a sheet of samples on the page")


def execute(arguments: argparse.Namespace) -> None:
    """Print its figures, from the manifest and the commits alone; write the page if it is wanted."""
    store = open_store(arguments.store)
    if arguments.html:
        _write_page(store, arguments)
    teacher, views = store.manifest.identity.teacher, store.manifest.identity.views
    rows = [
        ("weights' sha256", teacher.weights_sha256),
        *([("code's sha256", teacher.code_sha256)] if teacher.code_sha256 else []),
        ("views drawn by", views_text(views)),
        *store_rows(store),
    ]
    print(as_text(("store", store.url), rows))


def _write_page(store: Store, arguments: argparse.Namespace) -> None:
    with needs_extra("report", "the page"):
        from pld.report.samples import draw_samples
        from pld.report.store_page import render_store_page
    images = open_images(arguments.data, arguments, unlabelled=not store.is_labelled) if arguments.data else None
    samples = draw_samples(store, images, _NUM_SAMPLES) if images else []
    write_text(arguments.html, render_store_page(store, samples))
    print(f"page: {arguments.html}")
