"""Bytes, rounding and speed of a store, beside TinyViT's records, a file for each sample, and dense float16.

    make bench-store [PHOTOS='photos-{0000..0003}.tar' WEIGHTS=lite2.safetensors]

Bytes are those of one part of 1,250 samples x 8 views and everything around it, 5 temperatures. The view that is read
has 1.28 million rows at k = 50, made synthetically, local, in the page cache; peak memory is by how much a fresh
process grew. Random batches of 256 rows come from it, from TinyViT's records of as many rows and from files of 50,000
of them, all in the page cache, which flatters the files. Ends with one line of JSON. Not measured: cold disks, remote
stores.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import torch

from experiments.benchmarks.store.layouts import Files, TinyViT, dense_bytes
from experiments.benchmarks.store.logits import NUM_SAMPLES, NUM_VIEWS, TEMPERATURES, Logits, logits
from experiments.benchmarks.store.reading import SHARD_SAMPLES, read_in_fresh_process, write_large
from experiments.benchmarks.timing import CPU, Spread, machine, paired_seconds, ratio
from pld.signals import TopK
from pld.store import FormatName, Shard, StoreWriter, open_store
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
        topks = signals(given, 50)[:2]
        write_large(Path(folder) / "large", topks, SHARDS)
        figures |= reading(Path(folder) / "large", topks[1].k)
        figures |= random_batches(Path(folder), topks)
    print(json.dumps({name: round(value, 6) for name, value in figures.items()}))


def signals(given: Logits, k: int) -> list[TopK]:
    """Each view's signal, not rounded."""
    return [TopK.from_logits(view, given.labels, k, TEMPERATURES) for view in given.values]


def sizes(folder: Path, given: Logits, k: int) -> dict[str, float]:
    """Write the part in each layout, read it back, and print bytes per sample-view."""
    topks, num_rows = signals(given, k), NUM_SAMPLES * NUM_VIEWS
    written = {"zarr": write_part(folder / f"zarr-{k}", given, topks, "zarr")}
    written["webdataset"] = write_part(folder / f"webdataset-{k}", given, topks, "webdataset")
    held = {name: sum(map(len, tree(folder / f"{name}-{k}").values())) for name in written}
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


def write_part(root: Path, given: Logits, topks: list[TopK], format: FormatName) -> int:
    """A store of one part; the bytes that this process wrote for it."""
    k, keys = topks[0].k, [f"n{row:08d}_{row:05d}" for row in range(NUM_SAMPLES)]
    identity = World(sizes=(NUM_SAMPLES,), num_classes=given.values.shape[2], k=k).identity
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


def reading(root: Path, k: int) -> dict[str, float]:
    """One view in fresh processes: rows a second, memory, bytes fetched."""
    runs = [read_in_fresh_process(root, 1) for _ in range(5)]
    rows, speed = runs[0]["rows"], Spread.of([run["rows"] / run["seconds"] / 1e6 for run in runs])
    grown = statistics.median(run["grown_bytes"] for run in runs)
    allowed = 1.3 * rows * (4 * k + 2 + 2 * len(TEMPERATURES))
    view_bytes, label_bytes = chunk_bytes(root)
    print(f"reading one view of {rows:,} rows: {speed} million rows/s, n = {len(runs)}")
    print(f"  memory grew by {grown / 1e6:.0f} MB; 1.3 x the integers is {allowed / 1e6:.0f} MB")
    print(
        f"  fetched {runs[0]['range_bytes'] / 1e6:.1f} MB of parts, of which the view is {view_bytes / 1e6:.1f} "
        f"and labels {label_bytes / 1e6:.1f}, and {runs[0]['index_bytes'] / 1e6:.1f} MB of commits; the store has "
        f"{open_store(str(root)).num_bytes / 1e6:.0f} MB"
    )
    return {"rows_per_s": 1e6 * speed.median}


def chunk_bytes(root: Path) -> tuple[int, int]:
    """Bytes of view 1's chunks and of the labels', as all commits list them."""
    commits = [json.loads(path.read_bytes()) for path in root.glob("commits/*/*.json")]
    views = sum(size for commit in commits for _, size, _ in commit["views"][1])
    return views, sum(commit["samples"][1][1] for commit in commits)


def random_batches(folder: Path, topks: list[TopK]) -> dict[str, float]:
    """The same random rows from each layout, in turn."""
    TinyViT.write(folder / "tinyvit", [topks[1]] * SHARDS)
    for shard in range(NUM_FILES // SHARD_SAMPLES):
        Files.write(folder / "files", topks[1], shard * SHARD_SAMPLES)
    table, rng = open_store(str(folder / "large")).load_view(1), np.random.default_rng(0)
    tinyvit, files = TinyViT(folder / "tinyvit", topks[1].k), Files(folder / "files")
    batches: dict[str, Iterator[np.ndarray]] = {
        "store": itertools.cycle(rng.integers(0, len(table), (200, BATCH))),
        "TinyViT": itertools.cycle(rng.integers(0, len(table), (200, BATCH))),
        "files": itertools.cycle(rng.integers(0, NUM_FILES, (200, BATCH))),
    }
    steps = {
        "store": lambda: table[next(batches["store"])],
        "TinyViT": lambda: tinyvit[next(batches["TinyViT"])],
        "files": lambda: files[next(batches["files"])],
    }
    seconds = paired_seconds(steps, CPU, rounds=ROUNDS, least_seconds=0.05)
    times = {name: Spread.of([1e6 * second for second in taken]) for name, taken in seconds.items()}
    x_tinyvit, x_files = (ratio(seconds[name], seconds["store"]) for name in ("TinyViT", "files"))
    for name, taken in times.items():
        print(f"random batch of {BATCH} rows: {name:8} {taken} us, n = {ROUNDS}")
    print(f"  the store is {x_tinyvit} times as fast as TinyViT's records and {x_files} times as fast as files")
    return {"random_x_tinyvit": x_tinyvit.median, "random_x_files": x_files.median}


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
