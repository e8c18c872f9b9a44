"""What a run reads, by digest: it may lie in another place when the run goes on, and must be the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec

from pld.errors import ConfigError
from pld.store import dataset_digest
from train_student.data.teacher_signal import TeacherSignal
from train_student.data.training_data import TrainingData

# What each is called, which option gives it.
_NAMES = {
    "data": ("the training images' keys, labels or class names", "--data"),
    "validation": ("the validation images' keys or labels", "--val_data"),
    "store": ("the teacher's logits", "--store"),
    "val_store": ("the logits of the validation images", "--val_store"),
    "teacher": ("the live teacher's weights, code or classes", "--teacher and --weights"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Content:
    """Digests of what a run reads; None for what it does without.

    Attributes:
        data: of the training images' keys and labels, and of the class names.
        validation: of the validation images' keys and labels.
        store: the fingerprint of the teacher's logits.
        val_store: the fingerprint of those of the validation images.
        teacher: of a live teacher, see `TeacherSignal.identity`.
    """

    data: str | None = None
    validation: str | None = None
    store: str | None = None
    val_store: str | None = None
    teacher: str | None = None

    @classmethod
    def of(cls, data: TrainingData, signal: TeacherSignal) -> Content:
        """Of a run as it is opened now."""
        return cls(
            data=data.digest,
            validation=dataset_digest(data.val.keys, data.val.labels) if data.val else None,
            store=data.fingerprint,
            val_store=data.val_store.manifest.identity.fingerprint if data.val_store else None,
            teacher=signal.identity,
        )

    def facts(self) -> dict[str, Any]:
        """As run.json has it."""
        return {"content": dataclasses.asdict(self)}


def check_same_content(folder: Path, now: Content) -> None:
    """Compare with what the run in `folder` was begun with; runs of versions that kept no digests pass.

    Raises:
        ConfigError: something is not the same, which is named with both digests; or run.json cannot be read.
    """
    path = folder / "run.json"
    try:
        found = json.loads(path.read_text()).get("content")
        before = None if found is None else msgspec.convert(found, Content)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; name another folder with --output") from error
    if before is None:
        return
    for name, (words, options) in _NAMES.items():
        was, value = getattr(before, name), getattr(now, name)
        if was != value:
            raise ConfigError(
                f"{folder}: was begun with other content than there is now: {words} (digest {_short(was)}, now "
                f"{_short(value)}). It may lie in another place, but must be the same: check {options}, or begin anew "
                "with another --output"
            )


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
