"""Timing steps in turn on one device: what counts are ratios of neighbours, with their spread."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

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


def extra_bytes(step: Step, device: torch.device) -> int | None:
    """Bytes allocated at the peak of a step over those before it; None on a CPU, where nobody counts."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


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
