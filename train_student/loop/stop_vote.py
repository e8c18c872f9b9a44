"""Stop all processes of a run after the same step, if one of them is asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

import torch
from accelerate import Accelerator

from pld.process.stopping import INTERRUPTED, TERMINATED, Stopping

# Between two votes, for which the processes wait for each other and for their devices.
_SECONDS = 1.0


class StopVote:
    """Stops all processes of a run, in the same call, where one of them is asked to: saves, and raises `Stopped`."""

    def __init__(self, accelerator: Accelerator, stopping: Stopping, save: Callable[[], object]) -> None:
        """Nothing is asked yet.

        Args:
            accelerator: of this process.
            stopping: asks this process to stop.
            save: saves what has been trained, in the process that does.
        """
        self._accelerator, self._stopping, self._save = accelerator, stopping, save
        self._calls, self._calls_to_next, self._voted_at = 0, 1, time.monotonic()

    def look(self, where: str) -> None:
        """Stop if a process is asked to; all call this after each step or batch, and vote in about one call a second.

        Args:
            where: they are, for the message.
        """
        self._stopping.advance()
        self._calls += 1
        if self._calls < self._calls_to_next and self._accelerator.num_processes > 1:
            return
        is_stop, mean_seconds = self._vote((time.monotonic() - self._voted_at) / self._calls)
        # All processes come to the same number.
        self._calls, self._calls_to_next = 0, max(1, round(_SECONDS / max(mean_seconds, 1e-6)))
        self._voted_at = time.monotonic()
        if is_stop:
            self._stop(where)

    def wait_until(self, is_ready: Callable[[float], bool], where: str) -> None:
        """Wait until all processes are ready, or stop before that.

        Args:
            is_ready: whether this one is within so many seconds.
            where: see `look`.
        """
        unready = 1.0
        while unready:
            is_stop, unready = self._vote(float(not is_ready(_SECONDS)))
            if is_stop and unready:
                self._stop(where)

    def _stop(self, where: str) -> NoReturn:
        self._stopping.finish()
        self._save()
        self._accelerator.wait_for_everyone()  # a process that ends, ends the one that saves, too
        raise self._stopping.stopped(f"{where}, which is saved")

    def _vote(self, value: float) -> tuple[bool, float]:
        """Whether to stop, and the mean of the processes' values."""
        status = self._stopping.status
        if self._accelerator.num_processes == 1:
            return bool(status), value
        mine = [status == INTERRUPTED, status == TERMINATED, value]
        votes = self._accelerator.reduce(
            torch.tensor(mine, dtype=torch.float32, device=self._accelerator.device), reduction="sum"
        )
        interrupted, terminated, total = votes.tolist()
        if interrupted or terminated:
            self._stopping.adopt(INTERRUPTED if interrupted else TERMINATED, "a signal to another of its processes")
        return bool(interrupted or terminated), total / self._accelerator.num_processes
