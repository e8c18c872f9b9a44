"""A run as a row, from its config.yaml, its metrics.jsonl and its lock."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pld.errors import DataError, NotCachedError, PLDError, first_line
from pld.losses import needs_teacher
from pld.process.owner import read_owner
from pld.report.listing.find import RUN_NAME, Place
from pld.report.listing.text import one_line, unreadable
from pld.store.objects.open import open_storage
from pld.store.objects.storage import Storage

RUN_COLUMNS = ("run", "model", "loss", "teacher", "epochs", "top-1 %", "state")
_MAX_CONFIG_BYTES, _MAX_METRICS_BYTES = 2**18, 2**24


def run_row(place: Place) -> tuple[str, ...]:
    """A row of RUN_COLUMNS; what is damaged is described as far as it can be read."""
    model = loss = teacher = epochs = top1 = "-"
    try:
        storage = open_storage(place.url)
        options = _read_options(storage)
        model, loss = (one_line(_option(options, group, "name", group)) for group in ("model", "loss"))
        teacher, planned = one_line(_teacher(options, loss)), _option(options, "optimizer", "epochs", "epochs")
        done, accuracy = _read_progress(storage)
        epochs, top1 = one_line(f"{done} of {planned}"), "-" if accuracy is None else f"{accuracy:.2f}"
        state = _in_use(place) or ("finished" if done == planned else "can go on")
    except (PLDError, OSError) as error:
        state = unreadable(error, place.url)
    return one_line(place.name), model, loss, teacher, epochs, top1, state


def _read_options(storage: Storage) -> Mapping[str, Any]:
    try:
        options = yaml.safe_load(storage.read(RUN_NAME, _MAX_CONFIG_BYTES))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{RUN_NAME}: {first_line(error)}") from error
    if not isinstance(options, dict):
        raise DataError(f"{RUN_NAME}: found no options, wanted those of train_student")
    return options


def _option(options: Mapping[str, Any], group: str, name: str, flat: str) -> Any:
    """An option in its group, or by its flat name, as older runs have it; "-" without it."""
    inner = options.get(group)
    return (inner.get(name) if isinstance(inner, dict) else options.get(flat)) or "-"


def _teacher(options: Mapping[str, Any], loss: str) -> str:
    if not needs_teacher(loss):
        return "none"
    if _option(options, "teacher", "online_teacher", "online_teacher") is True:
        return f"live {_option(options, 'teacher', 'name', 'teacher')}"
    stores = _option(options, "teacher", "store", "store")
    return " + ".join(map(str, stores)) if isinstance(stores, list) else str(stores)


def _read_progress(storage: Storage) -> tuple[int, float | None]:
    """Epochs done, and the top-1 of the last validation, in percent."""
    try:
        lines = storage.read("metrics.jsonl", _MAX_METRICS_BYTES).decode(errors="replace").splitlines()
    except NotCachedError:
        return 0, None
    done, accuracy = 0, None
    for number, line in enumerate(lines, 1):
        try:
            figures = json.loads(line)
            done, accuracy = int(figures["epoch"]), figures.get("top1", accuracy)
            accuracy = None if accuracy is None else float(accuracy)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            raise DataError(f"metrics.jsonl, line {number}: found no figures of an epoch") from error
    return done, accuracy


def _in_use(place: Place) -> str | None:
    """Who trains in a local run's folder, as its lock says."""
    if "://" in place.url:
        return None
    folder = Path(place.url).absolute()
    lock = folder.with_name(f".{folder.name}.lock")
    owner = read_owner(lock)
    if owner is None or (owner.is_local and not owner.lives()):
        return None
    who = one_line(f"in use by process {owner.process} on {owner.host} since {owner.since}")
    if owner.is_local:
        return who
    seconds = max(0.0, time.time() - lock.stat().st_mtime)  # of this machine's clock, which may differ from the other's
    return f"{who}, last heard of {seconds:,.0f} s ago"
