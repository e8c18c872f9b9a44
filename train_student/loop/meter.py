"""One epoch's figures: mean loss and its parts, speed, and how much of the time went into waiting for images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from train_student.data.batches import Batch
from train_student.loop.learner import BatchLoss


class Meter:
    """Counts one epoch; `Meter(device, **state)` goes on with one that was interrupted.

    Attributes:
        losses: sum of the steps' losses of this process, on the device.
        label_losses: sum of what the labels contribute to these losses; None where that is not known of every step.
        steps: how many steps are in the sum.
        bad_images: of all processes, on the device; counted only where they are skipped.
        bad_keys: theirs, of this process since the last start.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        losses: float = 0.0,
        label_losses: float | None = None,
        steps: int = 0,
        timed_steps: int = 0,
        seconds: float = 0.0,
        waited: float = 0.0,
        bad_images: int = 0,
    ) -> None:
        wide = torch.float64 if device.type == "cpu" else torch.float32
        self.losses = torch.tensor(losses, dtype=wide).to(device)
        # Checkpoints of old do not have it.
        is_known = label_losses is not None or steps == 0
        self.label_losses = torch.tensor(label_losses or 0.0, dtype=wide).to(device) if is_known else None
        self.steps = steps
        self.bad_images = torch.tensor(bad_images, dtype=torch.int64).to(device)
        self.bad_keys: list[str] = []
        self._timed_steps = timed_steps  # checkpoints of old do not say how long their steps took
        self._seconds_before = seconds
        self._start = time.monotonic()
        self._waited = waited

    def state(self) -> dict[str, Any]:
        """The state from which another Meter resumes, as plain values."""
        return {
            "losses": self.losses.item(),
            "label_losses": None if self.label_losses is None else self.label_losses.item(),
            "steps": self.steps,
            "timed_steps": self._timed_steps,
            "seconds": self._seconds,
            "waited": self._waited,
            "bad_images": int(self.bad_images.item()),
        }

    def wait_for(self, batches: Iterator[Batch]) -> Batch:
        """The next batch."""
        asked = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - asked
        return batch

    def add(self, losses: Sequence[BatchLoss]) -> None:
        """Count a step's loss, which is the mean of its micro-batches'."""
        self.losses += _mean([loss.total for loss in losses])
        of_labels = [loss.of_labels for loss in losses if loss.of_labels is not None]
        if self.label_losses is not None and of_labels:
            self.label_losses += _mean(of_labels)
        else:
            self.label_losses = None
        self.steps += 1
        self._timed_steps += 1

    def add_bad_images(self, accelerator: Accelerator, keys: Sequence[str]) -> None:
        """Count a step's bad images, of this process those with these keys.

        All processes at once: a checkpoint may be due in one of them only, and it holds the sum. Waits for no device.
        """
        self.bad_keys += keys
        ours = torch.full_like(self.bad_images, len(keys))
        self.bad_images += accelerator.reduce(ours, reduction="sum")

    @property
    def wait_share(self) -> float:
        """Share of the time so far that went into waiting for images."""
        return self._waited / max(self._seconds, 1e-9)

    def figures(self, accelerator: Accelerator, batch_size: int) -> dict[str, Any]:
        """What goes into metrics.jsonl, the loss averaged over all processes; waits for them and the device."""
        sums = torch.stack([self.losses, self.losses if self.label_losses is None else self.label_losses])
        loss, of_labels = (float(value) / self.steps for value in accelerator.reduce(sums, reduction="mean").tolist())
        parts = {} if self.label_losses is None else {"loss/label": of_labels, "loss/teacher": loss - of_labels}
        return {
            "loss": loss,
            **parts,
            "images_per_second": round(self._timed_steps * batch_size / self._seconds, 1),
            "wait_share": round(self.wait_share, 4),
        }

    @property
    def _seconds(self) -> float:
        """Since the epoch began, without the time between an interruption and what followed it."""
        return self._seconds_before + time.monotonic() - self._start


def _mean(losses: Sequence[torch.Tensor]) -> torch.Tensor:
    return sum(losses[1:], losses[0]) / len(losses)
