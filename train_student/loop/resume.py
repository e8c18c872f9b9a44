"""How far a run has come, and how it goes on from a checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from pld.errors import ConfigError
from train_student.data.training_data import TrainingData
from train_student.loop.learner import Learner
from train_student.loop.meter import Meter


@dataclasses.dataclass(kw_only=True)
class Progress:
    """How far a run has come.

    Attributes:
        steps_per_epoch: optimizer steps.
        batch_size: of a global batch.
        meter: of the epoch in progress.
        epoch: the one in progress, from 0.
        step: steps done in it.
        seconds: of training, over all starts of the run.
    """

    steps_per_epoch: int
    batch_size: int
    meter: Meter
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0

    @property
    def steps_done(self) -> int:
        """Optimizer steps so far, in the whole run."""
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def where(self) -> str:
        """The next step, as text for messages."""
        is_trained = self.step == self.steps_per_epoch
        return f"epoch {self.epoch + 1}, " + ("which is trained" if is_trained else f"step {self.step + 1}")

    def state(self, data: TrainingData, learner: Learner, seed: int) -> dict[str, Any]:
        """A checkpoint: what decides the batches to come, on any number of processes, and what they change."""
        position = {
            "seed": seed,
            "epoch": self.epoch,
            "samples_seen": self.step * self.batch_size,  # in this epoch, over all processes
            "num_views": data.num_views,
            "fingerprint": data.fingerprint,
            "data_digest": data.digest,
        }
        return {
            "position": position,
            "meter": self.meter.state(),
            "times": learner.times.state(),
            "seconds": self.seconds,
            "learner": learner.state(),
        }

    def restore(
        self, path: Path, state: dict[str, Any], data: TrainingData, learner: Learner, device: torch.device
    ) -> TrainingData:
        """Go on from a checkpoint's state; returns the data with the number of views that the run began with.

        Raises:
            ConfigError: the checkpoint is of other data, or of another model or optimizer.
        """
        position = state["position"]
        _check_same_data(position.get("data_digest"), position["fingerprint"], data, path)
        self.epoch, self.step = position["epoch"], position["samples_seen"] // self.batch_size
        self.meter = Meter(device, **state["meter"])
        self.seconds = state["seconds"]
        learner.times.go_on(state.get("times", {}))  # checkpoints of old have none
        try:
            learner.load_state(state["learner"], self.steps_done)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ConfigError(f"{path}: is of another model or optimizer: {error}") from error
        return dataclasses.replace(data, num_views=position["num_views"])


def _check_same_data(digest: str | None, fingerprint: str | None, data: TrainingData, where: Path) -> None:
    if digest not in (None, data.digest):  # None in checkpoints of old
        raise ConfigError(
            f"{where}: was trained on other keys, labels or class names than there are now (digest "
            f"{digest[:12]}, now {data.digest[:12]}): undo what changed in the folders, dataset.json or "
            "--class_names, or give another --output to begin anew"
        )
    if fingerprint != data.fingerprint:
        raise ConfigError(
            f"{where}: was trained from a store with fingerprint {fingerprint}, this one has {data.fingerprint}; "
            "give the same --store, or another --output to begin anew"
        )
