"""Checkpoints: one file each, staged and renamed, the last few kept; and when they are due."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pld.errors import ConfigError
from pld.files import write_atomically, writing
from train_student.config import RunOptions
from train_student.loop.state_tree import flatten, unflatten

_FORMAT = "pld-checkpoint/1"
_PATTERN = "step-*.safetensors"


class Checkpoints:
    """The checkpoints in a run's folder: `checkpoints/step-000001234.safetensors`."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self._keep = keep

    def save(self, step: int, state: Any) -> Path:
        """Write a checkpoint that is whole once it is there, then remove all but the last few.

        Args:
            step: optimizer steps taken; names the file.
            state: nested dicts, lists, tensors and plain values.

        Raises:
            OutputError: it cannot be written; the earlier ones are still there.
        """
        path = self.folder / f"step-{step:09d}.safetensors"
        tensors: dict[str, torch.Tensor] = {}
        skeleton = json.dumps(flatten(state, tensors))
        with writing(path):
            with write_atomically(path, durable=True) as temporary:
                save_file(tensors, temporary, metadata={"format": _FORMAT, "state": skeleton})
            for old in self.paths()[: -self._keep]:
                old.unlink(missing_ok=True)
        return path

    def paths(self) -> list[Path]:
        """Those there are, oldest first."""
        return sorted(self.folder.glob(_PATTERN))

    def load_latest(self) -> tuple[Path, Any] | None:
        """The newest one that can be read, or None where there is none at all.

        Raises:
            ConfigError: there are some, and none can be read; each is named.
        """
        broken = []
        for path in reversed(self.paths()):
            try:
                return path, load(path)
            except ConfigError as error:
                broken.append(str(error))
        if broken:
            raise ConfigError("; ".join(broken) + ". Remove them to start from the beginning")
        return None


class Saver:
    """Saves a run's state when that is due, each step once, in one process: all hold the same state."""

    def __init__(self, folder: Path, options: RunOptions, *, is_writer: bool) -> None:
        self.checkpoints = Checkpoints(folder / "checkpoints", options.keep_checkpoints)
        self._steps, self._seconds = options.checkpoint_steps, 60 * options.checkpoint_minutes
        self._is_writer = is_writer
        self._saved_step, self._saved_at = 0, time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint should follow after this many steps."""
        if self._steps:
            return step % self._steps == 0
        return time.monotonic() - self._saved_at >= self._seconds

    def save(self, step: int, state: Callable[[], Any]) -> None:
        """Write a checkpoint unless this step has one."""
        if self._is_writer and self._saved_step != step:
            self.checkpoints.save(step, state())
        self.note(step)

    def note(self, step: int) -> None:
        """This step has a checkpoint."""
        self._saved_step, self._saved_at = step, time.monotonic()


def load(path: Path) -> Any:
    """A checkpoint's state, on the CPU; raises ConfigError where the file is not one, or is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ConfigError(f"{path}: found format {metadata.get('format')!r}, wanted {_FORMAT!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return unflatten(json.loads(metadata["state"]), tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a checkpoint that can be read: {error}") from error
