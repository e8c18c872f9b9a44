"""What it costs to keep as many classes of each view as an error asks for, beside the same k of all."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import torch

from experiments.benchmarks.store.logits import TEMPERATURES, Logits
from experiments.benchmarks.timing import Spread, timed
from pld.losses import gradient_error_bound
from pld.signals import TopK
from pld.store import Shard, StoreWriter, open_store
from tests.store.world import World, tree

_MOST, _SHARDS, _ROUNDS = 50, 64, 7


def kept_errors(folder: Path, given: Logits) -> dict[str, float]:
    """Bytes a view and PLD's gradient error bound for errors and fixed k; how fast both are read, in turn."""
    figures: dict[str, float] = {}
    kept = [(k, error) for k in (20, _MOST) for error in (None, 0.03, 0.1, 0.3)]
    for k, error in kept:
        root = folder / f"error-{k}-{error}"
        each = write(root, given, k, error, 1) / (given.values.shape[0] * given.values.shape[1])
        store = open_store(str(root))
        held = [store.load_view(view)[np.arange(store.num_samples)] for view in range(store.num_views)]
        bounds = torch.cat([gradient_error_bound(topk) for topk in held])
        listed = torch.cat([topk.listed.sum(dim=1) for topk in held]).double()
        over = "" if error is None else f", {100 * float((bounds > error).double().mean()):.1f} % of views above it"
        print(
            f"k = {k}, error {error}: {each:.1f} bytes a view, {listed.mean():.1f} classes; the bound is "
            f"{bounds.mean():.3f} on average, {bounds.quantile(0.95):.3f} for 95 %{over}"
        )
        if error is not None:
            assert bool((listed[bounds > error] == k).all())
            figures[f"bytes_k{k}_error_{error:g}"] = each
    for error in (None, 0.3):
        write(folder / f"many-{error}", given, _MOST, error, _SHARDS)
    seconds: dict[float | None, list[float]] = {None: [], 0.3: []}
    for _ in range(_ROUNDS):
        for error, found in seconds.items():
            store = open_store(str(folder / f"many-{error}"))
            found.append(timed(functools.partial(_read, folder / f"many-{error}")) / store.num_samples)
    ratio = Spread.of([fixed / kept for fixed, kept in zip(seconds[None], seconds[0.3], strict=True)])
    print(f"reading rows of an error of 0.3: {ratio} times as fast as k = {_MOST} of all, n = {_ROUNDS}, in turn")
    return figures | {"error_read_x_fixed": ratio.median}


def _read(root: Path) -> None:
    """One view, then all its rows by the batch."""
    store = open_store(str(root))
    table = store.load_view(0)
    for rows in np.random.default_rng(0).permutation(len(table))[: len(table) // 256 * 256].reshape(-1, 256):
        table[rows]


def write(root: Path, given: Logits, k: int, error: float | None, num_shards: int) -> int:
    """A store with the views' signals in each of so many shards; its bytes."""
    views, num_rows, num_classes = given.values.shape
    world = World(sizes=(num_rows,) * num_shards, num_classes=num_classes, k=k)
    world = dataclasses.replace(world, error=error)
    codec = world.identity.codec
    topks = [
        TopK.from_logits(view, given.labels, k, TEMPERATURES, error=error, logprob_error=codec.logprob_error)
        for view in given.values
    ]
    shards = [Shard(name=f"train-{index:04d}", num_samples=num_rows) for index in range(num_shards)]
    writer = StoreWriter.open(str(root), world.identity, shards, {})
    for index, part in enumerate(writer.missing_parts(views)):
        keys = [f"n{index:08d}_{row:05d}" for row in range(num_rows)]
        writer.write_part(part, keys, given.labels.numpy(), topks)
    writer.seal()
    return sum(map(len, tree(root).values()))
