"""TopK to small integers and back, within a bound that FORMAT.md proves.

    logprob             ->  uint16  round(-logprob / grid), clamped at 65535; 0 for the label's where it is in the top-k
    t * tail_logmass[t] ->  int16   round(t * tail_logmass[t] / grid), -32768 where the tail is empty
    tail_threshold      ->  int32   round(tail_threshold / grid), clamped at -65535

A tail is multiplied by its temperature first so that one grid serves all: a step of t * tail_logmass moves the weight
of the tail at temperature t exactly as a step of a log-probability moves the weight of its class.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int16, Int32, Int64, Integer, Shaped, UInt16, UInt32

from pld.signals import TailSample, TopK
from pld.store.format.identity import CodecIdentity, Identity

EMPTY_TAIL = -(2**15)
# Never a depth of its own: a label outside the top-k has at most half of the probability.
LABEL_AMONG_CLASSES = 0
_MAX_DEPTH = 2**16 - 1

ClassArray = UInt16[np.ndarray, "N k"] | UInt32[np.ndarray, "N k"]


class GridTopK(NamedTuple):
    """N samples' top-k as integers: classes, and depths below probability 1 in steps of the grid.

    `label_depth` is LABEL_AMONG_CLASSES where `classes` has the label; None without labels. `tails` are integers as
    stored, or, once `narrow` has merged classes into them, log masses themselves. Those of the tail's classes are None
    without a sampled tail. `counts` says how many of the k entries each row lists, None where all do; those after them
    are padding, which repeats the row's first class and its last depth.
    """

    classes: ClassArray
    depths: UInt16[np.ndarray, "N k"]
    label_depth: UInt16[np.ndarray, "N"] | None
    tails: Int16[np.ndarray, "N T"] | Float32[np.ndarray, "N T"]
    tail_classes: UInt16[np.ndarray, "N m"] | UInt32[np.ndarray, "N m"] | None = None
    tail_depths: UInt16[np.ndarray, "N m"] | None = None
    tail_threshold: Int32[np.ndarray, "N"] | None = None
    counts: UInt16[np.ndarray, "N"] | UInt32[np.ndarray, "N"] | None = None

    @classmethod
    def empty(cls, num_rows: int, k: int, identity: Identity) -> GridTopK:
        """Room for num_rows of a store's rows, cut to k classes; its memory is not touched yet."""
        codec, num_drawn = identity.codec, identity.codec.tail_samples
        classes = class_dtype(identity.teacher.num_classes)
        # Classes that a smaller k leaves out join the tail, of which they are no sample.
        is_sampled = bool(num_drawn) and k == codec.k
        return cls(
            classes=np.empty((num_rows, k), classes),
            depths=np.empty((num_rows, k), "<u2"),
            label_depth=np.empty(num_rows, "<u2") if identity.dataset.labelled else None,
            tails=np.empty((num_rows, len(codec.temperatures)), "<i2" if k == codec.k else np.float32),
            tail_classes=np.empty((num_rows, num_drawn), classes) if is_sampled else None,
            tail_depths=np.empty((num_rows, num_drawn), "<u2") if is_sampled else None,
            tail_threshold=np.empty(num_rows, "<i4") if is_sampled else None,
            counts=None if codec.error is None else np.empty(num_rows, count_dtype(codec.k)),
        )

    def put(self, rows: slice, part: GridTopK) -> None:
        """Copy a part's rows into these."""
        for values, new in zip(self, part, strict=True):
            if values is not None and new is not None:
                values[rows] = new

    def take(self, rows: Int64[np.ndarray, "B"]) -> GridTopK:
        """These rows, in their order."""
        # take is 3 times as fast as indexing at a batch of 256 rows.
        taken: dict[str, Any] = {
            name: None if values is None else values.take(rows, axis=0) for name, values in self._asdict().items()
        }
        return GridTopK(**taken)


def class_dtype(num_classes: int) -> np.dtype:
    """The little-endian integers that hold class indices below num_classes."""
    return np.dtype("<u2" if num_classes <= 2**16 else "<u4")


def count_dtype(k: int) -> np.dtype:
    """The little-endian integers that hold counts up to k."""
    return class_dtype(k + 1)


def padding(counts: Integer[np.ndarray, "N"], k: int) -> Bool[np.ndarray, "N k"]:
    """Which of a row's k entries it does not list."""
    return np.arange(k, dtype=counts.dtype) >= counts[:, None]


@functools.cache
def _padding_to_add(k: int) -> Float32[np.ndarray, "k_plus_1 k"]:
    """Row n has 0 for the first n of k entries and -inf for the others; all are windows of one line of 2 k numbers."""
    line = np.repeat(np.array([0, -np.inf], np.float32), k)
    return np.lib.stride_tricks.sliding_window_view(line, k)[::-1]


def quantise(topk: TopK, codec: CodecIdentity, num_classes: int) -> GridTopK:
    """Round a signal that `check_signal` accepts."""
    label_depth = None
    if topk.labels is not None and topk.label_logprob is not None:
        label_depth = _depths(topk.label_logprob, codec.grid)
        label_depth[(topk.classes == topk.labels[:, None]).any(dim=1).numpy()] = LABEL_AMONG_CLASSES
    scaled = topk.tail_logmass.detach().double().numpy() * np.array(codec.temperatures) / codec.grid
    tails = np.where(scaled > EMPTY_TAIL, np.rint(np.maximum(scaled, EMPTY_TAIL)), EMPTY_TAIL)
    counts, logprobs = None, topk.logprobs
    if topk.counts is not None:
        counts = topk.counts.numpy().astype(count_dtype(codec.k))
        # A repeated depth is a difference of 0, which compresses best.
        logprobs = torch.where(topk.listed, logprobs, topk.last_logprobs)
    return GridTopK(
        classes=topk.classes.numpy().astype(class_dtype(num_classes)),
        depths=_depths(logprobs, codec.grid),
        counts=counts,
        label_depth=label_depth,
        tails=tails.astype("<i2"),
        **_quantised_sample(topk.tail_sample, codec, num_classes),
    )


def dequantise(grid_topk: GridTopK, labels: Integer[np.ndarray, "N"] | None, codec: CodecIdentity) -> TopK:
    """The signal in float32, each log-probability within `logprob_error` of what was rounded."""
    step = np.float32(codec.grid)
    label_depth = _label_depth(grid_topk, labels)
    logprobs = grid_topk.depths * -step
    if grid_topk.counts is not None:
        logprobs += _padding_to_add(logprobs.shape[1])[grid_topk.counts]
    return TopK(
        classes=torch.from_numpy(grid_topk.classes.astype(np.int64)),
        logprobs=torch.from_numpy(logprobs),
        counts=None if grid_topk.counts is None else torch.from_numpy(grid_topk.counts.astype(np.int64)),
        labels=None if labels is None else torch.from_numpy(labels.astype(np.int64)),
        label_logprob=None if label_depth is None else torch.from_numpy(label_depth * -step),
        tail_logmass=torch.from_numpy(_tail_logmass(grid_topk.tails, codec)),
        temperatures=codec.temperatures,
        logprob_error=codec.logprob_error,
        tail_sample=_dequantised_sample(grid_topk, codec),
    )


def narrow(grid_topk: GridTopK, labels: Integer[np.ndarray, "N"] | None, codec: CodecIdentity, k: int) -> GridTopK:
    """Keep the k most probable classes; the others join the tail at every temperature, the label excepted.

    The tails become float32: rounding them to the grid once more would double their error. A sampled tail is left out:
    it is none of the larger tail.
    """
    left_out = grid_topk.depths[:, k:] * -codec.grid
    if grid_topk.counts is not None:
        left_out[padding(grid_topk.counts, grid_topk.depths.shape[1])[:, k:]] = -np.inf
    if labels is not None:
        left_out = np.where(grid_topk.classes[:, k:] == labels[:, None], -np.inf, left_out)
    tails = _tail_logmass(grid_topk.tails, codec)
    for column, temperature in enumerate(codec.temperatures):
        joined = np.logaddexp.reduce(left_out / temperature, axis=1, initial=-np.inf)
        tails[:, column] = np.logaddexp(tails[:, column], joined)
    return GridTopK(
        classes=grid_topk.classes[:, :k],
        depths=grid_topk.depths[:, :k],
        label_depth=_label_depth(grid_topk, labels),
        tails=tails,
        counts=None if grid_topk.counts is None else np.minimum(grid_topk.counts, k).astype(count_dtype(codec.k)),
    )


def _quantised_sample(sample: TailSample | None, codec: CodecIdentity, num_classes: int) -> dict[str, Any]:
    """A sampled tail's arrays; nothing without one."""
    if sample is None:
        return {}
    threshold = np.rint(sample.threshold.detach().double().numpy() / codec.grid)
    return {
        "tail_classes": sample.classes.numpy().astype(class_dtype(num_classes)),
        "tail_depths": _depths(sample.logprobs, codec.grid),
        # Deeper than any depth that is stored means the same: all of the tail is certain.
        "tail_threshold": np.maximum(threshold, -_MAX_DEPTH).astype("<i4"),
    }


def _dequantised_sample(grid_topk: GridTopK, codec: CodecIdentity) -> TailSample | None:
    """A TopK's sampled tail; None without one."""
    if grid_topk.tail_classes is None or grid_topk.tail_depths is None or grid_topk.tail_threshold is None:
        return None
    step = np.float32(codec.grid)
    return TailSample(
        classes=torch.from_numpy(grid_topk.tail_classes.astype(np.int64)),
        logprobs=torch.from_numpy(grid_topk.tail_depths * -step),
        threshold=torch.from_numpy(grid_topk.tail_threshold.astype(np.float32) * step),
        temperature=codec.temperatures[-1],
    )


def _label_depth(grid_topk: GridTopK, labels: Integer[np.ndarray, "N"] | None) -> UInt16[np.ndarray, "N"] | None:
    """The labels' depths: their entry's where they are among the classes, to the last bit; None without labels."""
    if labels is None or grid_topk.label_depth is None:
        return None
    depth = grid_topk.label_depth.copy()
    entry = np.flatnonzero(grid_topk.classes == labels[:, None])
    row = entry // grid_topk.classes.shape[1]
    # Padding repeats the first class: of a row's entries the first counts, which is written last.
    depth[row[::-1]] = grid_topk.depths.take(entry[::-1])
    return depth


def _tail_logmass(tails: Shaped[np.ndarray, "N T"], codec: CodecIdentity) -> Float32[np.ndarray, "N T"]:
    if tails.dtype == np.float32:
        return tails
    masses = tails * np.array([codec.grid / t for t in codec.temperatures], dtype=np.float32)
    masses[tails == EMPTY_TAIL] = -np.inf
    return masses


def _depths(logprobs: Float[torch.Tensor, "..."], grid: float) -> UInt16[np.ndarray, "..."]:
    # maximum: a certain class may have a log-probability of +1e-7, and -0.0 steps.
    return np.clip(np.rint(logprobs.detach().double().numpy() / -grid), 0, _MAX_DEPTH).astype("<u2")
