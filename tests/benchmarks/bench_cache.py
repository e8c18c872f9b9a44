"""Caching a teacher's logits, beside what it cannot do without: decoding the images and running the teacher.

    make bench-cache [PHOTOS='photos-{0000..0003}.tar' WEIGHTS=lite0.safetensors]

The teacher is tf_efficientnet_lite0, whose time does not depend on its weights; photos are decoded once for all their
views. On one machine both need the same cores, so the bound is the sum of the two alone: views decoded and cut as the
cache does it, and forward passes on ready batches. `cost_bound`: wall time of caching, with planning, top k, writing
and sealing, over that bound. In turn; ends with one line of JSON. Not measured: GPUs, where the two overlap.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from cache_teacher.forward import cut_views
from pld.images import Source, open_source
from pld.teachers import Teacher, build_teacher
from tests.benchmarks.photos import write_copies
from tests.benchmarks.timing import Spread, machine, ratio

ROUNDS, IMAGES, VIEWS, BATCH, THREADS = 5, 64, 4, 64, 2
TEACHER = "tf_efficientnet_lite0"


@dataclasses.dataclass(frozen=True)
class Work:
    """What is cached, and where."""

    source: Source
    teacher: Teacher
    config: CacheConfig


def main() -> None:
    """Measure and print."""
    print(f"{machine(torch.device('cpu'))}; n = {ROUNDS} rounds in turn, median (quartiles)")
    with tempfile.TemporaryDirectory() as folder:
        print(write_copies(os.environ.get("PHOTOS"), Path(folder), IMAGES, (390, 466)))
        data, weights = str(Path(folder) / "shards"), os.environ.get("WEIGHTS") or made_weights(Path(folder))
        settings = {"views": VIEWS, "batch_size": BATCH, "threads": THREADS, "device": "cpu", "weights": weights}
        config = CacheConfig(teacher=TEACHER, data=data, store=f"{folder}/store", **settings)
        work = Work(open_source(data), build_teacher(TEACHER, weights), config)
        steps = {"caching": run_cache, "decoding alone": decode, "forward alone": forward}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for first in range(ROUNDS):
            for name in itertools.islice(itertools.cycle(steps), first % len(steps), first % len(steps) + len(steps)):
                seconds[name].append(steps[name](work))
    bound = [a + b for a, b in zip(seconds["decoding alone"], seconds["forward alone"], strict=True)]
    for name, taken in seconds.items():
        each = Spread.of([1000 * second / (IMAGES * VIEWS) for second in taken])
        print(f"  {name:16}{each} ms a view, {VIEWS} views of each image")
    cost = ratio(seconds["caching"], bound)
    print(f"  caching takes {cost} of the sum of the other two")
    print(json.dumps({"cost_bound": round(statistics.median([cost.median]), 3)}))


def made_weights(folder: Path) -> str:
    """Random weights, for want of published ones."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = str(folder / "weights.safetensors")
    save_file(timm.create_model(TEACHER).state_dict(), path)
    return path


def run_cache(work: Work) -> float:
    """Seconds to cache everything into a new store; the teacher's building is not counted."""
    built: Callable[..., Teacher] = lambda *_, **__: work.teacher  # noqa: E731
    store = Path(work.config.store_path)
    config = dataclasses.replace(work.config, store=f"{store}-{time.monotonic_ns()}")
    with contextlib.redirect_stdout(io.StringIO()), using(built):
        start = time.perf_counter()
        cache(config)
        return time.perf_counter() - start


@contextlib.contextmanager
def using(built: Callable[..., Teacher]):
    """Let the cache have a teacher that is there already."""
    import cache_teacher.cache as module

    before, module.build_teacher = module.build_teacher, built
    try:
        yield
    finally:
        module.build_teacher = before


def decode(work: Work) -> float:
    """Seconds to decode every image and cut its views, by the cache's threads, into memory that is there already."""
    shape = (BATCH // VIEWS, VIEWS, *work.teacher.preprocessing.input_size, 3)
    images = torch.zeros(shape, dtype=torch.uint8).permute(0, 1, 4, 2, 3)

    def cut(share: int) -> None:
        for row in range(share, len(work.source), THREADS):
            out = images[row % len(images)]
            cut_views(work.source, row, range(VIEWS), work.source.policy, work.teacher.preprocessing, out)

    with ThreadPoolExecutor(THREADS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        start = time.perf_counter()
        list(pool.map(cut, range(THREADS)))
        return time.perf_counter() - start


def forward(work: Work) -> float:
    """Seconds for as many forward passes on a ready batch."""
    images = torch.randint(0, 256, (BATCH, *work.teacher.preprocessing.input_size, 3), dtype=torch.uint8)
    ready = images.permute(0, 3, 1, 2)
    with torch.inference_mode():
        work.teacher.logits(ready)
        start = time.perf_counter()
        for _ in range(IMAGES * VIEWS // BATCH):
            work.teacher.logits(ready)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
