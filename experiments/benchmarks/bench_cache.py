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
import io
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import safetensors.torch
import timm
import torch

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from cache_teacher.pieces import split_part
from experiments.benchmarks.input.photos import write_images
from experiments.benchmarks.timing import Spread, in_turn, machine, print_figures, ratio, timed
from pld.buffer_pool import keep_freed_memory
from pld.images import open_source
from pld.loading import ViewDecoder, ViewRequest, loading, view_decoder
from pld.teachers import Teacher, build_teacher

ROUNDS = 5


# Images, and the cache's settings; beside a GPU the teacher is compiled.
ON_CPU = 64, {"teacher": "tf_efficientnet_lite0", "views": 4, "batch_size": 64, "threads": 2, "precision": "fp32"}
ON_GPU = 2048, {"teacher": "resnet50", "views": 8, "batch_size": 256, "threads": os.cpu_count(), "precision": "bf16"}


def main() -> None:
    """Measure on this machine and print."""
    keep_freed_memory()  # as the command does
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print_figures({"cost_bound": measure(device)})


def measure(device: torch.device) -> float:
    """Print what caching takes beside its parts; returns its median cost over the bound."""
    on_gpu = device.type == "cuda"
    num_images, settings = ON_GPU if on_gpu else ON_CPU
    print(f"{machine(device)}; {num_images} images, {settings}; n = {ROUNDS} rounds in turn, median (quartiles)")
    with tempfile.TemporaryDirectory() as folder:
        print(write_images("PHOTOS", Path(folder), num_images))
        data, store, weights = (f"{folder}/{name}" for name in ("shards", "store", "weights.safetensors"))
        write_weights(settings["teacher"], weights)
        config = CacheConfig(
            allow_wrong_labels=True, weights=weights, data=data, store=store, device=device.type, **settings
        )
        teacher = build_teacher(config.teacher, weights, precision=config.precision, device=device.type)
        if on_gpu:
            teacher.model.compile(dynamic=False)
        source, decode = open_source(data), decode_by_processes if on_gpu else decode_by_threads
        decoder = view_decoder(source, source.policy, [teacher.preprocessing])
        steps = {
            "caching": lambda: run_cache(config, teacher),
            "decoding alone": lambda: decode(config, decoder),
            "forward alone": lambda: forward(config, teacher, num_images),
        }
        run_cache(config, teacher)  # compiles
        seconds = in_turn(steps, ROUNDS)
    parts = zip(seconds["decoding alone"], seconds["forward alone"], strict=True)
    bound = [max(pair) if on_gpu else sum(pair) for pair in parts]
    for name, taken in seconds.items():
        each = Spread.of(taken, 1000 / (num_images * config.views))
        print(f"  {name:16}{each} ms a view, {config.views} views of each image")
    cost = ratio(seconds["caching"], bound)
    print(f"  caching takes {cost} of the {'larger' if on_gpu else 'sum'} of the other two")
    return round(cost.median, 3)


def write_weights(name: str, path: str) -> None:
    """A file of random weights."""
    torch.manual_seed(0)
    safetensors.torch.save_file(timm.create_model(name).state_dict(), path)


def run_cache(config: CacheConfig, teacher: Teacher) -> float:
    """Seconds to cache everything into a new store; the teacher's building is not counted."""
    config = dataclasses.replace(config, store=f"{config.store}-{time.monotonic_ns()}")
    ready = mock.patch("cache_teacher.inputs.build_teacher", return_value=teacher)
    with contextlib.redirect_stdout(io.StringIO()), ready:
        return timed(lambda: cache(config))


def decode_by_threads(config: CacheConfig, decoder: ViewDecoder) -> float:
    """Seconds to decode every image and cut its views, by as many threads as the cache has.

    They never wait for each other, and write to memory that is there already.
    """
    view_indexes, threads = range(config.views), config.threads or 1
    num_bytes = decoder.num_bytes(ViewRequest(np.zeros(1, np.int64), view_indexes))
    memory = torch.zeros((config.batch_size // config.views, num_bytes), dtype=torch.uint8)

    def cut(share: int) -> None:
        for row in range(share, len(decoder.dataset), threads):
            decoder.fill(ViewRequest(np.array([row]), view_indexes), memory[row % len(memory)], lambda row: None)

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return timed(lambda: list(pool.map(cut, range(threads))))


def decode_by_processes(config: CacheConfig, decoder: ViewDecoder) -> float:
    """The same by processes, their start and the copies to page-locked memory included, as the cache has both."""

    def decode_all() -> None:
        rows, view_indexes = np.arange(len(decoder.dataset)), range(config.views)
        pieces = split_part(rows, view_indexes, batch_size=config.batch_size, piece_size=64)
        with loading(decoder, pieces, processes=config.threads or 1) as views:
            for _ in views:
                pass

    return timed(decode_all)


def forward(config: CacheConfig, teacher: Teacher, num_images: int) -> float:
    """Seconds for as many forward passes on a ready batch."""
    images = torch.randint(0, 256, (config.batch_size, *teacher.preprocessing.input_size, 3), dtype=torch.uint8)
    ready = images.to(config.device).permute(0, 3, 1, 2)

    def forward_all() -> None:
        for _ in range(num_images * config.views // config.batch_size):
            logits = teacher.logits(ready)
        logits.cpu()  # waits for a GPU

    with torch.inference_mode():
        teacher.logits(ready).cpu()
        return timed(forward_all)


if __name__ == "__main__":
    main()
