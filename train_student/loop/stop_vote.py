"""Stop all processes of a run after the same step, if one of them is asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from accelerate import Accelerator

from pld.stopping import INTERRUPTED, TERMINATED, Stopping

# Between two votes, for which the processes wait for each other and for their devices.
_SECONDS = 1.0


class StopVote:
    """Asks all processes of a run whether it is to stop; all get the same answer from the same call.

    After an answer of yes, each process's `Stopping` has the status.
    """

    def __init__(self, accelerator: Accelerator, stopping: Stopping) -> None:
        self._accelerator, self._stopping = accelerator, stopping
        self._calls, self._calls_to_next, self._voted_at = 0, 1, time.monotonic()

    def is_stop(self) -> bool:
        """Whether to stop; called by all processes after each step or batch, of which one in about a second votes."""
        if self._accelerator.num_processes == 1:
            return bool(self._stopping.status)
        self._calls += 1
        if self._calls < self._calls_to_next:
            return False
        seconds = (time.monotonic() - self._voted_at) / self._calls
        stop, mean_seconds = self._vote(seconds)
        # All processes come to the same number.
        self._calls, self._calls_to_next = 0, max(1, round(_SECONDS / max(mean_seconds, 1e-6)))
        self._voted_at = time.monotonic()
        return stop

    def is_stop_before(self, is_ready: Callable[[float], bool]) -> bool:
        """Wait until all processes are ready; whether the run is to stop before they are.

        Args:
            is_ready: whether this one is within so many seconds.
        """
        while True:
            ready = is_ready(_SECONDS)
            if self._accelerator.num_processes == 1:
                stop, unready = bool(self._stopping.status), float(not ready)
            else:
                stop, unready = self._vote(not ready)
            if not unready:
                return False
            if stop:
                return True

    def _vote(self, value: float) -> tuple[bool, float]:
        """Whether to stop, and the mean of the processes' values."""
        status = self._stopping.status
        mine = [status == INTERRUPTED, status == TERMINATED, value]
        votes = self._accelerator.reduce(
            torch.tensor(mine, dtype=torch.float32, device=self._accelerator.device), reduction="sum"
        )
        interrupted, terminated, total = votes.tolist()
        if interrupted or terminated:
            self._stopping.adopt(INTERRUPTED if interrupted else TERMINATED, "a signal to another of its processes")
        return bool(interrupted or terminated), total / self._accelerator.num_processes
