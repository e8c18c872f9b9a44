"""Caching a teacher's logits, beside what it cannot do without: decoding the images and running the teacher.

    make bench-cache [PHOTOS='photos-{0000..0003}.tar']

The teacher's weights are random, which its time does not depend on; photos are decoded once for all their views.
`cost_bound`: wall time of caching, with planning, top k, writing and sealing, over a bound made of two things alone:
views decoded and cut as the cache does it, and forward passes on ready batches. On a CPU both need the same cores and
the bound is their sum; beside a GPU, where processes decode, they overlap and it is the larger one. In turn; ends with
one line of JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from cache_teacher.forward import split_part
from experiments.benchmarks.photos import write_images
from experiments.benchmarks.timing import Spread, in_turn, machine, print_figures, ratio, timed
from pld.buffer_pool import keep_freed_memory
from pld.images import Source, open_source
from pld.loading import ViewDecoder, ViewRequest, loading, view_decoder
from pld.precision import Precision
from pld.teachers import Teacher, build_teacher

ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is cached, by which teacher and how."""

    teacher: str
    images: int
    views: int
    batch: int
    threads: int
    precision: Precision
    compile: bool


ON_CPU = Scale("tf_efficientnet_lite0", images=64, views=4, batch=64, threads=2, precision="fp32", compile=False)
ON_GPU = Scale("resnet50", images=2048, views=8, batch=256, threads=os.cpu_count() or 1, precision="bf16", compile=True)


@dataclasses.dataclass(frozen=True)
class Work:
    """What is cached, and where."""

    scale: Scale
    device: torch.device
    source: Source
    teacher: Teacher
    config: CacheConfig


def main() -> None:
    """Measure on this machine and print."""
    keep_freed_memory()  # as the command does
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print_figures({"cost_bound": measure(device)})


def measure(device: torch.device) -> float:
    """Print what caching takes beside its parts; returns its median cost over the bound."""
    scale = ON_GPU if device.type == "cuda" else ON_CPU
    print(f"{machine(device)}; {scale}; n = {ROUNDS} rounds in turn, median (quartiles)")
    with tempfile.TemporaryDirectory() as folder:
        print(write_images("PHOTOS", Path(folder), scale.images))
        work = prepare(scale, device, Path(folder))
        steps = {"caching": run_cache, "decoding alone": decode, "forward alone": forward}
        run_cache(work)  # compiles
        seconds = in_turn({name: functools.partial(step, work) for name, step in steps.items()}, ROUNDS)
    parts = zip(seconds["decoding alone"], seconds["forward alone"], strict=True)
    bound = [max(pair) if device.type == "cuda" else sum(pair) for pair in parts]
    for name, taken in seconds.items():
        each = Spread.of(taken, 1000 / (scale.images * scale.views))
        print(f"  {name:16}{each} ms a view, {scale.views} views of each image")
    cost = ratio(seconds["caching"], bound)
    print(f"  caching takes {cost} of the {'larger' if device.type == 'cuda' else 'sum'} of the other two")
    return round(cost.median, 3)


def prepare(scale: Scale, device: torch.device, folder: Path) -> Work:
    """The images in `folder`/shards, a teacher with random weights, a configuration of the cache."""
    data, weights = str(folder / "shards"), write_weights(scale.teacher, folder)
    teacher = build_teacher(scale.teacher, weights, precision=scale.precision, device=device.type)
    if scale.compile:
        teacher.model.compile(dynamic=False)
    config = CacheConfig(
        allow_wrong_labels=True,
        teacher=scale.teacher,
        weights=weights,
        data=data,
        store=str(folder / "store"),
        views=scale.views,
        batch_size=scale.batch,
        threads=scale.threads,
        precision=scale.precision,
        device=device.type,
    )
    return Work(scale, device, open_source(data), teacher, config)


def write_weights(name: str, folder: Path) -> str:
    """A file of random weights."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = str(folder / "weights.safetensors")
    save_file(timm.create_model(name).state_dict(), path)
    return path


def run_cache(work: Work) -> float:
    """Seconds to cache everything into a new store; the teacher's building is not counted."""
    store = Path(work.config.store_path)
    config = dataclasses.replace(work.config, store=f"{store}-{time.monotonic_ns()}")
    ready = mock.patch("cache_teacher.cache.build_teacher", return_value=work.teacher)
    with contextlib.redirect_stdout(io.StringIO()), ready:
        return timed(lambda: cache(config))


def decode(work: Work) -> float:
    """Seconds to decode every image and cut its views, by the threads or processes that the cache has."""
    decoder = view_decoder(work.source, work.source.policy, [work.teacher.preprocessing])
    return (decode_by_threads if work.device.type == "cpu" else decode_by_processes)(decoder, work.scale)


def decode_by_threads(decoder: ViewDecoder, scale: Scale) -> float:
    """They never wait for each other, and write to memory that is there already."""
    view_indexes = range(scale.views)
    num_bytes = decoder.num_bytes(ViewRequest(np.zeros(1, np.int64), view_indexes))
    memory = torch.zeros((scale.batch // scale.views, num_bytes), dtype=torch.uint8)

    def cut(share: int) -> None:
        for row in range(share, len(decoder.dataset), scale.threads):
            decoder.fill(ViewRequest(np.array([row]), view_indexes), memory[row % len(memory)], lambda row: None)

    with ThreadPoolExecutor(scale.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return timed(lambda: list(pool.map(cut, range(scale.threads))))


def decode_by_processes(decoder: ViewDecoder, scale: Scale) -> float:
    """Their start and the copies to page-locked memory included, as the cache has both."""

    def decode_all() -> None:
        pieces = split_part(np.arange(len(decoder.dataset)), range(scale.views), scale.batch)
        with loading(decoder, pieces, processes=scale.threads) as views:
            for _ in views:
                pass

    return timed(decode_all)


def forward(work: Work) -> float:
    """Seconds for as many forward passes on a ready batch."""
    scale = work.scale
    images = torch.randint(0, 256, (scale.batch, *work.teacher.preprocessing.input_size, 3), dtype=torch.uint8)
    ready = images.to(work.device).permute(0, 3, 1, 2)

    def forward_all() -> None:
        for _ in range(scale.images * scale.views // scale.batch):
            logits = work.teacher.logits(ready)
        logits.cpu()  # waits for a GPU

    with torch.inference_mode():
        work.teacher.logits(ready).cpu()
        return timed(forward_all)


if __name__ == "__main__":
    main()
