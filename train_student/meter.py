"""One epoch's figures: mean loss, speed, and how much of the time went into waiting for images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator

from pld.images.jpeg_box import HAS_BOXES
from train_student.input import Batch

_MUCH_WAITING = 0.1
_NO_BOXES = (
    "; here photos are decoded beyond their crops: install pld-distill again where there are a C compiler, Python's "
    "headers and an x86 processor with AVX2"
)


class Meter:
    """Counts one epoch, or the rest of one after a resume.

    Attributes:
        losses: sum of the steps' losses of this process, on the device.
        steps: how many steps are in the sum.
    """

    def __init__(self, device: torch.device, losses: float = 0.0, steps: int = 0) -> None:
        self.losses = torch.tensor(losses, dtype=torch.float64 if device.type == "cpu" else torch.float32).to(device)
        self.steps = steps
        self._timed_from = steps
        self._start = time.monotonic()
        self._waited = 0.0

    def wait_for(self, batches: Iterator[Batch]) -> Batch:
        """The next batch."""
        asked = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - asked
        return batch

    def add(self, loss: torch.Tensor) -> None:
        """Count a step's loss."""
        self.losses += loss
        self.steps += 1

    @property
    def wait_share(self) -> float:
        """Share of the time so far that went into waiting for images."""
        return self._waited / max(time.monotonic() - self._start, 1e-9)

    def figures(self, accelerator: Accelerator, batch_size: int) -> dict[str, Any]:
        """What goes into metrics.jsonl, the loss averaged over all processes; waits for them and the device."""
        loss = float(accelerator.reduce(self.losses, reduction="mean").item()) / self.steps
        elapsed = time.monotonic() - self._start
        return {
            "loss": loss,
            "images_per_second": round((self.steps - self._timed_from) * batch_size / elapsed, 1),
            "wait_share": round(self.wait_share, 4),
        }


def advice(wait_share: float, workers: int) -> str | None:
    """What to change where the device waits for images much of the time."""
    if wait_share <= _MUCH_WAITING:
        return None
    told = (
        f"{100 * wait_share:.0f} % of the time went into waiting for images: raise --workers (now {workers} for each "
        "process) if cores are idle, put the shards on a faster disk, or store smaller images"
    )
    return told if HAS_BOXES else told + _NO_BOXES
