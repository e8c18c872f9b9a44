"""Runs, read back from their folders or from object stores."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pld.errors import DataError, NotCachedError
from pld.store.objects.open import open_storage

# What a run's result does not depend on, in folders whose run.json does not say what it does.
_NOT_SETTINGS = frozenset(
    {"output", "workers", "tracker", "resume", "on_bad_image", "compile", "push_to_hub", "dry_run"}
    | {"checkpoint_minutes", "checkpoint_steps", "keep_checkpoints"}
)

_MAX_BYTES = 2**28


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run left in its folder.

    Attributes:
        path: the folder, or its URL.
        config: the options that its result depends on, by flat name.
        facts: sizes and provenance.
        epochs: one mapping per epoch, as logged.
    """

    path: Path | str
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The folder's name."""
        return str(self.path).rpartition("/")[2]

    @property
    def is_validated(self) -> bool:
        """Whether it has validation figures; a run without validation images has none."""
        return any("top1" in epoch for epoch in self.epochs)

    @property
    def final(self) -> Mapping[str, Any]:
        """The last epoch with a validation; of a run without any the last one."""
        return next((epoch for epoch in reversed(self.epochs) if "top1" in epoch), self.epochs[-1])


def read_run(path: Path | str) -> RunRecord:
    """Read a run's folder, also behind a URL.

    Raises:
        DataError: it is none, or has no validation yet where it is to have one.
        StoreError: the object store does not answer.
    """
    storage = open_storage(path)
    try:
        config = yaml.safe_load(storage.read("config.yaml", _MAX_BYTES).decode())
        facts = json.loads(storage.read("run.json", _MAX_BYTES))
        epochs = [json.loads(line) for line in storage.read("metrics.jsonl", _MAX_BYTES).decode().splitlines()]
    except (NotCachedError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not a run's folder: {error}; train_student.py --output writes one") from error
    config = facts.get("settings") or {name: value for name, value in config.items() if name not in _NOT_SETTINGS}
    run = RunRecord(path=path, config=config, facts=facts, epochs=epochs)
    # What is left of a run without validation images are its epochs.
    validates = facts.get("num_val") != 0
    if not (run.is_validated if validates else epochs):
        awaited = "validation" if validates else "epoch"
        raise DataError(f"{path}: no {awaited} in it yet; wait for the run's first one")
    return run
