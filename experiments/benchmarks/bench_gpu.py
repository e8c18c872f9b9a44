"""Check every loss on a GPU, then time PLD beside what it replaces. Ends with one line of JSON.

    make bench-gpu

Checks: each loss against float64 on the CPU (types, dense and top-k, autocast, torch.compile without graph breaks), and
the Triton kernel's test cases on the device; images that nvJPEG decodes and the GPU resizes against the CPU's. Timings:
forward and backward, every contestant once a round; "a step" as Python calls it, "device" the same recorded as a CUDA
graph. The floor is a device copy of the logits: the bytes of one read and one write. Small problems stay in the cache,
the copy's too. Then images that nvJPEG decodes, and the cache. Exits with 1 where a check or a contestant failed, with
2 where there is no GPU.
"""

import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks import bench_cache
from experiments.benchmarks.gpu.checks import Check, checks
from experiments.benchmarks.gpu.decoding import decoding_checks, images_per_second
from experiments.benchmarks.gpu.step import step_without_waiting
from experiments.benchmarks.loss_steps import CROSS_ENTROPY, FLOOR, Size, steps
from experiments.benchmarks.timing import Step, extra_bytes, machine, paired_seconds, ratio, recorded, timed

ROOT = Path(__file__).parents[2]
ROUNDS = 20
# No new size is begun after this, so that the whole stays under eight minutes.
LAST_START_SECONDS = 400
SIZES = [
    Size(rows, classes, 50, dtype)
    for dtype in (torch.float32, torch.bfloat16)
    for rows in (256, 2048)
    for classes in (1000, 21841)
]


def main() -> int:
    if not torch.cuda.is_available():
        print("bench-gpu: no GPU here, nothing to check or to time")
        return 2
    device = torch.device("cuda")
    every_check = [
        ("the kernel's test cases", kernel_cases),
        ("a training step waits for nothing", step_without_waiting),
        *decoding_checks(device),
        *checks(device, "inductor"),
    ]
    failed = bench(device, every_check, SIZES, compiler="inductor", rounds=ROUNDS, least_seconds=0.005)
    attempt("images/s by nvJPEG", lambda: images_per_second(device))
    print(json.dumps({"bench": "gpu cache", "machine": machine(device), "cost_bound": bench_cache.measure(device)}))
    return failed


def bench(
    device: torch.device,
    every_check: Iterable[Check],
    sizes: Iterable[Size],
    *,
    compiler: str,
    rounds: int,
    least_seconds: float,
) -> int:
    """Check, time and print, on any device; 1 where something failed."""
    start = time.monotonic()
    print(f"{machine(device)}; n = {rounds} rounds, median (quartiles)", flush=True)
    failed = [name for name, check in every_check if not attempt(name, check)]
    print(f"checks took {time.monotonic() - start:.0f} s, {len(failed)} failed", flush=True)
    results = []
    for size in sizes:
        if time.monotonic() - start > LAST_START_SECONDS:
            print(f"{size}: left out, for time")
            continue
        torch.compiler.reset()
        results.append(time_size(size, device, compiler, rounds, least_seconds, failed))
    line = {"bench": "gpu", "machine": machine(device), "rounds": rounds, "failed": failed, "sizes": results}
    print(json.dumps(line))
    return 1 if failed else 0


def kernel_cases() -> None:
    """Run the kernel's test cases on the GPU, in another process: this one may have Triton interpreting."""
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "--noconftest",
        "-m",
        "not long",
        "tests/losses/plackett_luce/triton_cases.py",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-2000:])
        raise AssertionError(f"pytest ended with {done.returncode}")


def time_size(
    size: Size, device: torch.device, compiler: str, rounds: int, least_seconds: float, failed: list[str]
) -> dict[str, Any]:
    """Time every contestant that runs, print a table, and return its figures."""
    as_called: dict[str, Step] = {}
    on_device: dict[str, Step] = {}

    def record(name: str, step: Step) -> None:
        on_device[name] = recorded(step, device)

    for name, step in steps(size, device, compiler).items():
        if not attempt(f"{size}, {name}", functools.partial(timed, step, 3)):
            failed.append(f"{size}, {name}")
            continue
        as_called[name] = step
        # One that waits for the device cannot be recorded.
        attempt(f"{size}, {name}, as a CUDA graph", functools.partial(record, name, step))
    logits_bytes = size.rows * size.classes * size.dtype.itemsize
    memory = {name: extra_bytes(step, device) / logits_bytes for name, step in as_called.items()}
    called, alone = (
        paired_seconds(each, device, rounds=rounds, least_seconds=least_seconds) for each in (as_called, on_device)
    )
    print(f"\n{size}")
    print(f"{'':<24}{'us a step':>10}{'x cross entropy':>24}{'us device':>11}{'x floor':>26}{'memory / logits':>17}")
    figures: dict[str, Any] = {}
    for name, seconds in called.items():
        us, us_device = statistics.median(seconds) * 1e6, None
        cost = ratio(seconds, called[CROSS_ENTROPY]) if CROSS_ENTROPY in called else None
        floor = ratio(alone[name], alone[FLOOR]) if name in alone and FLOOR in alone else None
        if name in alone:
            us_device = statistics.median(alone[name]) * 1e6
        figures[name] = {
            "us": us,
            "cost_ce": cost and cost.median,
            "us_device": us_device,
            "x_floor": floor and floor.median,
            "extra_memory": memory[name],
        }
        device_text = f"{us_device:.1f}" if us_device else "-"
        cost_text, floor_text = str(cost or "-"), str(floor or "-")
        print(f"{name:<24}{us:>10.1f}{cost_text:>24}{device_text:>11}{floor_text:>26}{memory[name]:>17.2f}", flush=True)
    return {"size": str(size), "steps": figures}


def attempt(name: str, call: Callable[[], object]) -> bool:
    """Whether the call went through; what went wrong is printed, so that one failure does not hide the rest."""
    try:
        call()
    except Exception as error:
        print(f"FAILED {name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", flush=True)
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
