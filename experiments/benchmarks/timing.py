"""Timing steps in turn on one device: what counts are ratios of neighbours, with their spread."""

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from experiments.benchmarks.memory import peak_bytes

Step = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """How many times as long one thing took as another, round by round."""
    return Spread.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def paired_seconds(
    steps: Mapping[str, Step], device: torch.device, *, rounds: int, least_seconds: float
) -> dict[str, list[float]]:
    """Seconds a call of each step, once a round, each round beginning with another; a timing repeats short steps."""
    repeats = {}
    for name, step in steps.items():
        _seconds(step, 3, device)
        repeats[name] = max(1, round(least_seconds / max(_seconds(step, 3, device), 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for _ in range(rounds):
        names = names[1:] + names[:1]
        for name in names:
            seconds[name].append(_seconds(steps[name], repeats[name], device))
    return seconds


def recorded(step: Step, device: torch.device) -> Step:
    """The step as a CUDA graph: the device's work without Python's launches. On a CPU, the step."""
    if device.type != "cuda":
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def extra_bytes(step: Step, device: torch.device) -> int:
    """Bytes allocated at the peak of a step over those before it; what the step returns counts."""
    if device.type != "cuda":
        return peak_bytes(step)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def machine(device: torch.device) -> str:
    """What a figure was measured on, in one line."""
    if device.type == "cuda":
        triton = importlib.metadata.version("triton") if importlib.util.find_spec("triton") else "none"
        name = torch.cuda.get_device_name(device)
        return f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, triton {triton}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu_name()}, {cores} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _seconds(step: Step, repeats: int, device: torch.device) -> float:
    if device.type != "cuda":
        start_time = time.perf_counter()
        for _ in range(repeats):
            step()
        return (time.perf_counter() - start_time) / repeats
    start, end = (torch.cuda.Event(enable_timing=True) for _ in "ab")
    start.record()
    for _ in range(repeats):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / repeats
