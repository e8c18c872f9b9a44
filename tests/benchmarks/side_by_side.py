"""Timing several commands side by side in one run, because machines are noisy: what counts are ratios of neighbours."""

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as long one thing took as another, over paired rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def paired_seconds(
    functions: Mapping[str, Callable[[], object]], *, rounds: int, least_seconds: float = 0.02
) -> dict[str, list[float]]:
    """Seconds a call of each function, once a round, each round in another order; a timing repeats short calls."""
    repeats = {name: _repeats(function, least_seconds) for name, function in functions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    for _ in range(rounds):
        names = names[1:] + names[:1]
        for name in names:
            seconds[name].append(_seconds(functions[name], repeats[name]))
    return seconds


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Median and quartiles of the rounds' ratios."""
    each = [a / b for a, b in zip(numerator, denominator, strict=True)]
    low, median, high = statistics.quantiles(each, n=4)
    return Ratio(median, low, high)


def machine() -> str:
    """What a figure was measured on, in one line."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cpu}, {cores} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _repeats(function: Callable[[], object], least_seconds: float) -> int:
    for _ in range(3):
        function()
    return max(1, round(least_seconds / _seconds(function, 3)))


def _seconds(function: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats
