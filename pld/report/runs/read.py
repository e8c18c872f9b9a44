"""Run folders, read back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pld.errors import DataError

# What a run's result does not depend on, in folders whose run.json does not say what it does.
_NOT_SETTINGS = frozenset(
    {"output", "workers", "tracker", "resume", "on_bad_image", "compile", "push_to_hub", "dry_run"}
    | {"checkpoint_minutes", "checkpoint_steps", "keep_checkpoints"}
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run left in its folder.

    Attributes:
        path: the folder.
        config: the options that its result depends on, by flat name.
        facts: sizes and provenance.
        epochs: one mapping per epoch, as logged.
    """

    path: Path
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def is_validated(self) -> bool:
        """Whether it has validation figures; a run without validation images has none."""
        return any("top1" in epoch for epoch in self.epochs)

    @property
    def final(self) -> Mapping[str, Any]:
        """The last epoch with a validation; of a run without any the last one."""
        return next((epoch for epoch in reversed(self.epochs) if "top1" in epoch), self.epochs[-1])


def read_run(path: Path) -> RunRecord:
    """Read a run's folder; raises DataError where it is none, or has no validation yet where it is to have one."""
    try:
        config = yaml.safe_load((path / "config.yaml").read_text())
        facts = json.loads((path / "run.json").read_text())
        epochs = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not a run's folder: {error}; train_student.py --output writes one") from error
    config = facts.get("settings") or {name: value for name, value in config.items() if name not in _NOT_SETTINGS}
    run = RunRecord(path=path, config=config, facts=facts, epochs=epochs)
    # What is left of a run without validation images are its epochs.
    validates = facts.get("num_val") != 0
    if not (run.is_validated if validates else epochs):
        awaited = "validation" if validates else "epoch"
        raise DataError(f"{path}: no {awaited} in it yet; wait for the run's first one")
    return run
