"""Stop at the first loss that is not finite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from pld.errors import PLDError
from pld.files import writing
from pld.loading import ViewRequest

# Looking at a loss waits for the device; on a CPU there is nothing to wait for.
_STEPS_BETWEEN_LOOKS = 16


class LossGuard:
    """Stops at the first loss that is not finite and leaves the keys of its batch in the run's folder."""

    def __init__(self, folder: Path, rank: int, key: Callable[[int], str]) -> None:
        self._path = folder / f"not-finite-{rank}.json"
        self._key = key
        self._recent: list[tuple[int, ViewRequest, torch.Tensor]] = []

    def add(self, step: int, request: ViewRequest, loss: torch.Tensor) -> None:
        """Remember a micro-batch's loss; look at the last ones now and then."""
        self._recent.append((step, request, loss))
        if loss.device.type == "cpu" or len(self._recent) >= _STEPS_BETWEEN_LOOKS:
            self.look()

    def look(self) -> None:
        """Raise PLDError, naming the file with the batch's keys, where one of the losses is not finite."""
        recent, self._recent = self._recent, []
        if not recent:
            return
        values = torch.stack([loss for _, _, loss in recent]).tolist()
        for (step, request, _), value in zip(recent, values, strict=True):
            if not torch.isfinite(torch.tensor(value)):
                keys = [self._key(row) for row in request.rows.tolist()]
                found = {"step": step, "views": list(request.view_indexes), "loss": str(value), "keys": keys}
                if request.mixing is not None:
                    found["mixed_with"] = [list(map(self._key, others)) for others in request.mixing.partners.tolist()]
                with writing(self._path):
                    self._path.write_text(json.dumps(found, indent=2) + "\n")
                raise PLDError(
                    f"the loss is {value} in step {step}; the batch's keys are in {self._path}. Try a lower --lr, "
                    "--clip_grad 1, or --precision bf16 in place of fp16"
                )
