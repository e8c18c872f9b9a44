"""Bytes, rounding and speed of a store, beside TinyViT's records, a file for each sample, and dense float16.

    make bench-store [PHOTOS='photos-{0000..0003}.tar' WEIGHTS=lite2.safetensors SIZE=224]

Bytes are those of one part of 1,250 samples x 8 views and everything around it, 5 temperatures; for k = 10 also those
of a policy with mixup and CutMix, whose partners, shares and boxes are not stored, and of sampled tails, with the error
of KD's gradient from them at T = 2 beside that from larger top-ks. The view that is read
has 1.28 million rows at k = 50, made synthetically, local, in the page cache. Random batches of 256 rows come from it,
from TinyViT's records of as many rows and from files of 50,000 of them, all in the page cache, which flatters the
files. Ends with one line of JSON. Not measured: cold disks, memory, remote stores.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from experiments.benchmarks.store.kept_errors import kept_errors
from experiments.benchmarks.store.layouts import Files, TinyViT, dense_bytes
from experiments.benchmarks.store.logits import (
    MIXED_POLICY,
    NUM_SAMPLES,
    NUM_VIEWS,
    TEMPERATURES,
    Logits,
    logits,
    write_large,
)
from experiments.benchmarks.store.sampled_tails import sampled_tails
from experiments.benchmarks.timing import CPU, Spread, Step, machine, paired_seconds, print_figures, ratio, timed
from pld.signals import TopK
from pld.store import FormatName, Shard, StoreWriter, open_store
from pld.views import RandomResizedCrop, policy_to_json
from tests.store.world import World, tree

SHARDS, NUM_FILES, BATCH, ROUNDS = 1024, 50_000, 256, 20


def main() -> None:
    torch.set_num_threads(1)
    given = logits()
    print(f"{machine(CPU)}\n{given.origin}")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for k in (10, 50):
            figures |= sizes(Path(folder), given, k)
        figures |= mixed_sizes(Path(folder), logits(mixed=True), 10)
        figures |= sampled_tails(Path(folder), given)
        figures |= kept_errors(Path(folder), given)
        topks = signals(given, 50)[:2]
        write_large(Path(folder) / "large", topks, SHARDS)
        figures |= reading(Path(folder) / "large")
        figures |= random_batches(Path(folder), topks)
    print_figures(figures)


def signals(given: Logits, k: int) -> list[TopK]:
    """Each view's signal, not rounded."""
    return [TopK.from_logits(view, given.labels, k, TEMPERATURES) for view in given.values]


def sizes(folder: Path, given: Logits, k: int) -> dict[str, float]:
    """Write the part in each layout, read it back, and print bytes per sample-view."""
    topks, num_rows = signals(given, k), NUM_SAMPLES * NUM_VIEWS
    formats: tuple[FormatName, ...] = ("zarr", "webdataset")
    written = {name: write_part(folder / f"{name}-{k}", given, topks, name) for name in formats}
    held: dict[str, int] = {name: sum(map(len, tree(folder / f"{name}-{k}").values())) for name in formats}
    TinyViT.write(folder / f"tinyvit-{k}", topks)
    held["TinyViT's records"] = (folder / f"tinyvit-{k}").stat().st_size
    held["dense float16"] = sum(dense_bytes(folder / "dense.npy", view) for view in given.values)
    errors = torch.cat([weight_errors(folder / f"zarr-{k}", topk, view) for view, topk in enumerate(topks)])
    for name, num_bytes in held.items():
        print(f"k = {k}: {name:18} {num_bytes / num_rows:8.1f} bytes a view")
    print(f"k = {k}: weights at T = 1 are off by {errors.mean():.5f} on average, {errors.max():.5f} at most (L1)")
    found = {f"bytes_k{k}": held["zarr"] / num_rows}
    if k == 50:
        found |= {"weight_l1_mean": float(errors.mean()), "weight_l1_max": float(errors.max())}
        found["write_amplification"] = written["zarr"] / held["zarr"]
        print(
            f"write amplification {found['write_amplification']:.3f}: bytes handed to the system over those that stay"
        )
    return found


def mixed_sizes(folder: Path, given: Logits, k: int) -> dict[str, float]:
    """Write mixed images' logits under a policy that mixes and under one that does not; print bytes per sample-view."""
    topks, held = signals(given, k), {}
    for name, policy in {"mixed": MIXED_POLICY, "unmixed": RandomResizedCrop()}.items():
        described = policy_to_json(policy)
        described.pop("seed")
        write_part(folder / f"{name}-{k}", given, topks, "zarr", described)
        held[name] = sum(map(len, tree(folder / f"{name}-{k}").values()))
    each, more = held["mixed"] / (NUM_SAMPLES * NUM_VIEWS), held["mixed"] - held["unmixed"]
    print(f"k = {k}: zarr, mixed images {each:8.1f} bytes a view; the mixing itself is {more} bytes in the whole store")
    return {f"bytes_mixed_k{k}": each}


def write_part(
    root: Path, given: Logits, topks: list[TopK], format: FormatName, policy: Mapping[str, Any] | None = None
) -> int:
    """A store of one part; the bytes that this process wrote for it."""
    k, keys = topks[0].k, [f"n{row:08d}_{row:05d}" for row in range(NUM_SAMPLES)]
    world = World(sizes=(NUM_SAMPLES,), num_classes=given.values.shape[2], k=k)
    identity = dataclasses.replace(world, policy=policy or world.policy).identity
    before = psutil.Process().io_counters().write_chars
    writer = StoreWriter.open(
        str(root), identity, [Shard(name="train-0000", num_samples=NUM_SAMPLES)], {}, format=format
    )
    (part,) = writer.missing_parts(NUM_VIEWS)
    writer.write_part(part, keys, given.labels.numpy(), topks)
    writer.seal()
    return psutil.Process().io_counters().write_chars - before


def weight_errors(root: Path, topk: TopK, view: int) -> torch.Tensor:
    """L1 error of the weights at T = 1 (top-k, label, tail) of each row; the order must be exact."""
    held = open_store(str(root)).load_view(view)[np.arange(NUM_SAMPLES)]
    assert torch.equal(held.classes, topk.classes)
    return (weights(held) - weights(topk)).abs().sum(dim=1)


def weights(topk: TopK) -> torch.Tensor:
    outside = (topk.classes != topk.labels[:, None]).all(dim=1)
    label = torch.where(outside, topk.label_logprob.double(), -torch.inf)
    return torch.cat([topk.logprobs.double(), label[:, None], topk.tail_at(1.0).double()[:, None]], dim=1).softmax(
        dim=1
    )


def reading(root: Path) -> dict[str, float]:
    """How fast one view is read, checked and unpacked."""
    rows = open_store(str(root)).num_samples
    stores = [open_store(str(root)) for _ in range(5)]
    speed = Spread.of([rows / timed(functools.partial(store.load_view, 1)) / 1e6 for store in stores])
    print(f"reading one view of {rows:,} rows: {speed} million rows/s, n = {len(stores)}")
    return {"rows_per_s": 1e6 * speed.median}


def random_batches(folder: Path, topks: list[TopK]) -> dict[str, float]:
    """The same random rows from each layout, in turn."""
    TinyViT.write(folder / "tinyvit", [topks[1]] * SHARDS)
    for shard in range(NUM_FILES // NUM_SAMPLES):
        Files.write(folder / "files", topks[1], shard * NUM_SAMPLES)
    table, rng = open_store(str(folder / "large")).load_view(1), np.random.default_rng(0)
    tinyvit, files = TinyViT(folder / "tinyvit", topks[1].k), Files(folder / "files")

    def reader(layout: Any, num_rows: int) -> Step:
        batches = itertools.cycle(rng.integers(0, num_rows, (200, BATCH)))
        return lambda: layout[next(batches)]

    steps = {
        "store": reader(table, len(table)),
        "TinyViT": reader(tinyvit, len(table)),
        "files": reader(files, NUM_FILES),
    }
    seconds = paired_seconds(steps, CPU, rounds=ROUNDS, least_seconds=0.05)
    x_tinyvit, x_files = (ratio(seconds[name], seconds["store"]) for name in ("TinyViT", "files"))
    for name, taken in seconds.items():
        print(f"random batch of {BATCH} rows: {name:8} {Spread.of(taken, 1e6)} us, n = {ROUNDS}")
    print(f"  the store is {x_tinyvit} times as fast as TinyViT's records and {x_files} times as fast as files")
    return {"random_x_tinyvit": x_tinyvit.median, "random_x_files": x_files.median}


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
