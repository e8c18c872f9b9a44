"""Where loaders spend their time: seconds of reading, decoding and cutting, counted by each loader in shared memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray

from pld.loading.shared_memory import SharedMemory

LOAD_PARTS = READING, DECODING, CUTTING = range(3)
LOAD_NAMES = ("reading", "decoding", "cutting")

Request = TypeVar("Request")


class Lap:
    """Adds the seconds since its beginning, or since its last part, to a part."""

    def __init__(self, seconds: Float64[ndarray, "3"], lock: threading.Lock) -> None:
        self._seconds, self._lock, self._since = seconds, lock, time.perf_counter()

    def end(self, part: int) -> None:
        """What was done until now was this part: READING, DECODING or CUTTING."""
        now = time.perf_counter()
        with self._lock:
            self._seconds[part] += now - self._since
        self._since = now


class Stopwatch:
    """One loader's seconds of each part; its threads may count at the same time."""

    def __init__(self, seconds: Float64[ndarray, "3"] | None = None) -> None:
        """Count in these numbers, or where nobody looks."""
        self._seconds = np.zeros(len(LOAD_PARTS)) if seconds is None else seconds
        self._lock = threading.Lock()

    def lap(self) -> Lap:
        """Begin to count, in one thread."""
        return Lap(self._seconds, self._lock)


class LoadTimes:
    """Seconds that loaders have spent on each part of their work; each process has numbers of its own.

    Attributes:
        drawing: seconds that drawing requests has taken, in which shards behind a URL are waited for.
    """

    def __init__(self, processes: int = 0) -> None:
        """Nothing is counted yet.

        Args:
            processes: worker processes, which count beside this one.
        """
        self._memory = SharedMemory(8 * len(LOAD_PARTS) * (processes + 1))
        self.drawing = 0.0

    def of(self, process: int = -1) -> Stopwatch:
        """The stopwatch of a worker process, or of this one."""
        return Stopwatch(self._numbers[process])

    @property
    def seconds(self) -> dict[str, float]:
        """Of reading, decoding and cutting, over all processes and threads."""
        return dict(zip(LOAD_NAMES, self._numbers.sum(axis=0).tolist(), strict=True))

    def count_drawing(self, requests: Iterable[Request]) -> Iterator[Request]:
        """The requests; what it takes to draw them is counted."""
        since = time.perf_counter()
        for request in requests:
            self.drawing += time.perf_counter() - since
            yield request
            since = time.perf_counter()

    @property
    def _numbers(self) -> Float64[ndarray, "processes 3"]:
        numbers: ndarray = self._memory.bytes.view(torch.float64).numpy()
        return numbers.reshape(-1, len(LOAD_PARTS))
