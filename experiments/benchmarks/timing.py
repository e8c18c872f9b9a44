"""Time and memory of contestants that are measured in turn: what counts are ratios of neighbours, with their spread."""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

CPU = torch.device("cpu")
Step = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], unit: float = 1.0) -> "Spread":
        """Of some values, in `unit` of each."""
        low, median, high = (unit * cut for cut in statistics.quantiles(values, n=4, method="inclusive"))
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """How many times as long one thing took as another, round by round."""
    return Spread.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def in_turn(timers: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The seconds that each timer returns, once a round; each round begins with another timer."""
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    names = list(timers)
    for _ in range(rounds):
        for name in names:
            seconds[name].append(timers[name]())
        names = names[1:] + names[:1]
    return seconds


def timed(step: Step, repeats: int = 1, *, warm_up: int = 0) -> float:
    """Seconds that some calls take together, after a few that are not counted."""
    for _ in range(warm_up):
        step()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return time.perf_counter() - start


def calls_in_turn(steps: Mapping[str, Step], num: int, *, rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds that `num` calls of each took in each round, after some that are not counted."""
    return in_turn({n: functools.partial(timed, step, num, warm_up=warm_up) for n, step in steps.items()}, rounds)


def paired_seconds(
    steps: Mapping[str, Step], device: torch.device, *, rounds: int, least_seconds: float
) -> dict[str, list[float]]:
    """Seconds a call of each step, measured in turn; a timing repeats short steps."""

    def timer(step: Step) -> Callable[[], float]:
        _seconds(step, 3, device)
        repeats = max(1, round(least_seconds / max(_seconds(step, 3, device), 1e-6)))
        return lambda: _seconds(step, repeats, device)

    return in_turn({name: timer(step) for name, step in steps.items()}, rounds)


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
        return _extra_bytes_on_cpu(step)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _extra_bytes_on_cpu(step: Step) -> int:
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = step()
    with tempfile.TemporaryDirectory() as folder:
        profile.export_chrome_trace(str(Path(folder) / "trace.json"))
        trace = json.loads((Path(folder) / "trace.json").read_text())
    del kept
    memory = [event for event in trace["traceEvents"] if event.get("name") == "[memory]"]
    changes = [num_bytes for _, num_bytes in sorted((event["ts"], event["args"]["Bytes"]) for event in memory)]
    return max(itertools.accumulate(changes, initial=0))


def print_figures(figures: Mapping[str, float]) -> None:
    """A benchmark's last line: its figures as JSON."""
    print(json.dumps({name: round(value, 6) for name, value in figures.items()}))


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
        return timed(step, repeats) / repeats
    start, end = (torch.cuda.Event(enable_timing=True) for _ in "ab")
    start.record()
    for _ in range(repeats):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / repeats
