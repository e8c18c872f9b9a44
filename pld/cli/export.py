"""Write image shards whose samples carry their logits, for pipelines of plain webdataset."""

from __future__ import annotations

import argparse
import logging

from pld.cli.arguments import add_images, local_path, open_images
from pld.join.export import export_with_images
from pld.progress import progress
from pld.store import open_store

_LOG = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("store", help="a store")
    parser.add_argument("out", type=local_path, help="the folder to write; an interrupted export resumes")
    parser.add_argument(
        "--webdataset-with-images",
        action="store_true",
        required=True,
        help="tars of KEY.jpg, KEY.cls (of a labelled store), KEY.topk.npy, KEY.rest.npy and KEY.view.json; see "
        "docs/webdataset_pipeline.md",
    )
    add_images(parser, "the store's images", required=True)
    parser.add_argument("--view", type=int, default=0, help="which view's logits (default: 0)")


def execute(arguments: argparse.Namespace) -> None:
    """Write the shards."""
    store = open_store(arguments.store)
    source = open_images(arguments.data, arguments, unlabelled=not store.is_labelled)
    with progress(store.num_samples, f"writing {arguments.out}") as bar:
        warning = export_with_images(store, source, arguments.out, arguments.view, bar.update)
    if warning:
        _LOG.warning("%s", warning)
    print(f"{arguments.out}: view {arguments.view} of {store.url} with its images")
