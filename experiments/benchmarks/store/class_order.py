"""What k = C would take in class order, without class indices and as exact: the table in docs/decisions/0003.

    PHOTOS='photos-{0000..0003}.tar' WEIGHTS=lite2.safetensors python -m experiments.benchmarks.store.class_order
    PHOTOS=glyphs TEACHER=local-dir:runs/demo/teacher/model python -m experiments.benchmarks.store.class_order

Bytes per sample-view of the first view's 1,250 rows, blosc's zstd at level 8 with the best of its shuffles.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numcodecs import blosc

from experiments.benchmarks.store.logits import logits
from pld.signals import TopK
from pld.store import CodecIdentity
from pld.store.format.quantise import GridTopK, quantise


def main() -> None:
    torch.set_num_threads(1)
    blosc.use_threads = False
    given = logits()
    print(given.origin)
    for grid in (1 / 64, 1 / 256):
        codec = CodecIdentity(k=given.values.shape[2], grid=grid)
        topk = TopK.from_logits(given.values[0], given.labels, codec.k, codec.temperatures)
        print(f"grid of 1/{round(1 / grid)} nat")
        for name, value in sizes(quantise(topk, codec, codec.k)).items():
            print(f"  {name:60} {value:8.1f}")


def sizes(ranked: GridTopK) -> dict[str, float]:
    """Bytes a row, by what is stored."""
    depths, classes = ranked.depths, ranked.classes
    by_class = in_class_order(depths, classes)
    from_median = by_class.astype(np.int64) - np.median(by_class, axis=0).astype(np.int64)
    orders = orders_of_ties(depths, classes)
    tied = np.diff(depths, axis=1, prepend=depths[:, :1] + 1) == 0
    tied[:, :-1] |= tied[:, 1:].copy()
    raised = np.maximum.accumulate(depths.astype(np.int64) - np.arange(depths.shape[1]), axis=1)
    raised += np.arange(depths.shape[1])
    delta = np.diff(depths.reshape(-1), prepend=depths[:1, 0]).astype("<u2").reshape(depths.shape)
    ties = min(bytes_of(orders), _blosc(orders[tied], 0, 1) / len(depths))
    found = {
        "rank order: classes": bytes_of(classes),
        "rank order: logprobs": bytes_of(delta),
        "class order, ties lost": bytes_of(by_class),
        "class order, below the most probable class": bytes_of((by_class - depths[:, :1]).astype("<u2")),
        "class order, distance to each class's median": bytes_of(zigzag(from_median)),
        "which order the ties had, coded": ties,
        "which order the ties had, entropy": entropy_of_ties(depths),
        "ties made distinct by raising integers": bytes_of(in_class_order(raised.astype("<u2"), classes)),
        "    largest error of that, steps": float((raised - depths).max()),
    }
    found["exact in class order"] = ties + min(bytes_of(by_class), bytes_of((by_class - depths[:, :1]).astype("<u2")))
    return found


def in_class_order(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    placed = np.empty_like(values)
    np.put_along_axis(placed, classes.astype(np.int64), values, axis=1)
    return placed


def orders_of_ties(depths: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """For each rank, how many of its equals behind it have a lower class: enough to restore their order."""
    found = np.zeros(depths.shape, np.uint8)
    for row, (depth, named) in enumerate(zip(depths, classes, strict=True)):
        starts = np.flatnonzero(np.diff(depth, prepend=depth[0] + 1))
        for start, stop in zip(starts, [*starts[1:], len(depth)], strict=True):
            if stop - start > 1:
                group = named[start:stop]
                found[row, start:stop] = [(group[place + 1 :] < group[place]).sum() for place in range(len(group))]
    return found


def entropy_of_ties(depths: np.ndarray) -> float:
    """Bytes a row that tell all orders of equals apart, if each is as likely."""
    counts = [np.unique(row, return_counts=True)[1] for row in depths]
    return float(np.mean([sum(math.lgamma(count + 1) for count in row) for row in counts]) / math.log(2) / 8)


def zigzag(values: np.ndarray) -> np.ndarray:
    return np.where(values >= 0, 2 * values, -2 * values - 1).astype("<u2")


def bytes_of(values: np.ndarray) -> float:
    """Bytes a row, of whole eights of rows, by whichever shuffle and order of axes is smallest."""
    whole = values[: len(values) // 8 * 8]
    candidates = [
        _blosc(np.ascontiguousarray(layout), shuffle, values.itemsize)
        for layout in (whole, whole.T)
        for shuffle in (blosc.SHUFFLE, blosc.BITSHUFFLE)
    ]
    row_bytes = values.shape[1] * values.itemsize
    if row_bytes <= 255:
        candidates.append(_blosc(np.ascontiguousarray(whole), blosc.BITSHUFFLE, row_bytes))
    return min(candidates) / len(whole)


def _blosc(values: np.ndarray, shuffle: int, typesize: int) -> int:
    block = 2**20 // (8 * typesize) * (8 * typesize)
    return len(blosc.compress(values.reshape(-1), b"zstd", 8, shuffle, block, typesize=typesize))


if __name__ == "__main__":
    main()
