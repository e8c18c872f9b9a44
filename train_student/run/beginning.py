"""What a run began with, kept in its run.json, so that it can be resumed without the initial weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec

from pld.errors import ConfigError
from pld.views.preprocessing import Preprocessing
from train_student.model.initial_weights import InitialWeights
from train_student.model.student import Student


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a run began with.

    Attributes:
        preprocessing: the student's.
        weights: the place of the weights that were given; None for fresh ones.
        weights_sha256: of their tensors, as a teacher's.
        note: what became of their classifier, see `load_weights`, or that a model's weights were not loaded.
    """

    preprocessing: Preprocessing
    weights: str | None = None
    weights_sha256: str | None = None
    note: str | None = None

    @classmethod
    def of(cls, student: Student, weights: InitialWeights | None) -> Beginning:
        """Of a run that begins now."""
        return cls(
            preprocessing=student.preprocessing,
            weights=weights.where if weights else None,
            weights_sha256=weights.digest if weights else None,
            note=student.note,
        )

    def facts(self) -> dict[str, Any]:
        """As run.json has it."""
        return {"beginning": dataclasses.asdict(self)}


def read_beginning(folder: Path) -> Beginning | None:
    """What the run in a folder began with; None for one of a version that had fresh weights alone.

    Raises:
        ConfigError: its run.json cannot be read.
    """
    path = folder / "run.json"
    try:
        found = json.loads(path.read_text()).get("beginning")
        return None if found is None else msgspec.convert(found, Beginning)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; name another folder with --output") from error


def check_same_weights(folder: Path, begun: Beginning | None, weights: InitialWeights | None) -> None:
    """Raise ConfigError where a run without a checkpoint would begin anew with other weights than before."""
    before, now = begun and begun.weights_sha256, weights and weights.digest
    if weights and before != now:
        raise ConfigError(
            f"{weights.where}: other weights (sha256 {str(now)[:12]}) than {folder} was begun with "
            f"({str(before)[:12]}), and it has no checkpoint yet; give those weights, or name another folder with "
            "--output"
        )
