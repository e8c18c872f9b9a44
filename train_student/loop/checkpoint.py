"""Checkpoints: one file each, staged and renamed, the last few kept; and when they are due."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pld.errors import ConfigError
from pld.files import write_atomically, writing
from train_student.loop.state_tree import flatten, unflatten

_LOG = logging.getLogger(__name__)

_FORMAT = "pld-checkpoint/1"
PATTERN = "step-*.safetensors"


class Checkpoints:
    """The checkpoints in a run's folder: `checkpoints/step-000001234.safetensors`.

    Attributes:
        last_step: the step of the last one, see `mark`.
    """

    def __init__(self, folder: Path, keep: int, *, minutes: float = math.inf, steps: int | None = None) -> None:
        self.folder, self._keep = folder, keep
        self._minutes, self._steps = minutes, steps
        self.mark(0)

    def mark(self, step: int) -> None:
        """Start counting steps and time to the next checkpoint."""
        self.last_step, self._marked_at = step, time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether to save after this many steps."""
        if self._steps:
            return step % self._steps == 0
        return time.monotonic() - self._marked_at >= 60 * self._minutes

    def save(self, step: int, state: Any) -> Path:
        """Write a checkpoint that is whole once it is there, then remove all but the last few.

        Args:
            step: optimizer steps taken; names the file.
            state: nested dicts, lists, tensors and plain values.

        Raises:
            OutputError: it cannot be written; the earlier ones are still there.
        """
        path, start = self.folder / f"step-{step:09d}.safetensors", time.monotonic()
        tensors: dict[str, torch.Tensor] = {}
        skeleton = json.dumps(flatten(state, tensors))
        with writing(path):
            with write_atomically(path, durable=True) as temporary:
                save_file(tensors, temporary, metadata={"format": _FORMAT, "state": skeleton})
            for old in self.paths()[: -self._keep]:
                old.unlink(missing_ok=True)
        _LOG.debug("%s: %d bytes written in %.1f s", path, path.stat().st_size, time.monotonic() - start)
        return path

    def paths(self) -> list[Path]:
        """Those there are, oldest first."""
        return sorted(self.folder.glob(PATTERN))

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


def load(path: Path) -> Any:
    """A checkpoint's state, on the CPU; raises ConfigError where the file is not one, or is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ConfigError(f"{path}: found format {metadata.get('format')!r}, wanted {_FORMAT!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return unflatten(json.loads(metadata["state"]), tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a checkpoint that can be read: {error}") from error
