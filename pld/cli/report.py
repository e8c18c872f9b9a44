"""Compare runs: a table, and one self-contained HTML page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pld.classes.names import read_class_names
from pld.cli.arguments import local_path
from pld.extras import needs_extra
from pld.files import write_text
from pld.images import Source, open_source
from pld.report.runs.read import read_run
from pld.report.runs.table import RUN_COLUMNS, SEED_COLUMNS, left_out, run_rows, seed_rows, where_from
from pld.report.table import as_text
from pld.store import Store, open_store

_NUM_SAMPLES = 18


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("runs", nargs="+", type=_run, help="folders that train_student.py wrote, or their URLs")
    parser.add_argument("--store", help="the store that the students learned from")
    parser.add_argument("--out", type=local_path, help="write the page here")


def execute(arguments: argparse.Namespace) -> None:
    """Print the table; write the page if it is wanted."""
    runs = [read_run(path) for path in arguments.runs]
    print(as_text(RUN_COLUMNS, run_rows(runs)))
    if spread := seed_rows(runs):
        print("\n" + as_text(SEED_COLUMNS, spread))
    if lacking := left_out(runs):
        print("\n" + "\n".join(lacking))
    print("\n" + where_from(runs))
    if arguments.out is None:
        return
    with needs_extra("report", "the page"):
        from pld.report.runs.page import render_page
        from pld.report.samples import draw_samples
    store = open_store(arguments.store) if arguments.store else None
    config = runs[-1].config
    samples = draw_samples(store, _training_images(config, store), _NUM_SAMPLES) if store else []
    write_text(arguments.out, render_page(runs, store, samples))
    print(f"page: {arguments.out}")


def _run(text: str) -> Path | str:
    return text.rstrip("/") if "://" in text else local_path(text)


def _training_images(config: Mapping[str, Any], store: Store) -> Source:
    names = read_class_names(config.get("class_names"))
    return open_source(config["data"], config["split"], class_names=names, unlabelled=not store.is_labelled)
