"""One epoch's figures: mean loss, speed, and how much of the time went into waiting for images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from pld.images.decode.jpeg_box import HAS_BOXES
from train_student.data.batches import Batch

_MUCH_WAITING = 0.1
_NO_BOXES = (
    "; here photos are decoded beyond their crops: install pld-distill again where there are a C compiler, Python's "
    "headers and an x86 processor with AVX2"
)


class Meter:
    """Counts one epoch; `Meter(device, **state)` goes on with one that was interrupted.

    Attributes:
        losses: sum of the steps' losses of this process, on the device.
        steps: how many steps are in the sum.
        bad_images: of all processes, on the device; counted only where they are skipped.
        bad_keys: theirs, of this process since the last start.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        losses: float = 0.0,
        steps: int = 0,
        timed_steps: int = 0,
        seconds: float = 0.0,
        waited: float = 0.0,
        bad_images: int = 0,
    ) -> None:
        self.losses = torch.tensor(losses, dtype=torch.float64 if device.type == "cpu" else torch.float32).to(device)
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

    def add(self, loss: torch.Tensor) -> None:
        """Count a step's loss."""
        self.losses += loss
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
        loss = float(accelerator.reduce(self.losses, reduction="mean").item()) / self.steps
        return {
            "loss": loss,
            "images_per_second": round(self._timed_steps * batch_size / self._seconds, 1),
            "wait_share": round(self.wait_share, 4),
        }

    @property
    def _seconds(self) -> float:
        """Since the epoch began, without the time between an interruption and what followed it."""
        return self._seconds_before + time.monotonic() - self._start


def epoch_lines(
    figures: dict[str, Any], bad_keys: Sequence[str], epoch: int, workers: int, run_seconds: float | None
) -> list[str]:
    """What to tell the user at the end of an epoch.

    Args:
        figures: the epoch's, as in metrics.jsonl.
        bad_keys: of images that could not be decoded, where they are known.
        epoch: from 1.
        workers: loader processes.
        run_seconds: of the whole run, after its last epoch; else None.
    """
    lines = [advice(figures["wait_share"], workers)]
    if num := figures.get("bad_images"):
        named = f" ({', '.join(bad_keys[:3])}{', ...' * (num > 3)})" if bad_keys else ""
        lines.append(f"epoch {epoch}: others took the places of images that cannot be decoded: {num}{named}")
    if num := figures.get("val_bad_images"):
        lines.append(f"epoch {epoch}: validation images left out, as they cannot be decoded: {num}")
    if run_seconds is not None:
        loss = f"loss {figures['loss']:.4f}, not validated"
        found = f"top-1 {figures['top1']:.2f} %, top-5 {figures['top5']:.2f} %" if "top1" in figures else loss
        lines.append(f"{found}, {run_seconds:.0f} s")
    return list(filter(None, lines))


def advice(wait_share: float, workers: int) -> str | None:
    """What to change where the device waits for images much of the time."""
    if wait_share <= _MUCH_WAITING:
        return None
    text = (
        f"{100 * wait_share:.0f} % of the time went into waiting for images: raise --workers (now {workers} for each "
        "process) if cores are idle, put the shards on a faster disk, or store smaller images"
    )
    return text if HAS_BOXES else text + _NO_BOXES
