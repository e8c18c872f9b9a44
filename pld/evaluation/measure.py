"""Evaluate a model on labelled images, each counted once, on any number of processes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from pld.errors import DataError
from pld.evaluation.figures import NUM_SUMS, batch_sums, num_samples, to_figures
from pld.images import Source
from pld.loading import ViewRequest, in_flight, loading, prefetch_shards, view_decoder
from pld.signals import TopK
from pld.views import Fixed
from pld.views.preprocessing import Preprocessing

BATCH_SIZE = 128
"""Images at once, if nothing else is said."""

Sent = TypeVar("Sent", Tensor, TopK)


@torch.no_grad()
def evaluate(
    predict: Callable[[UInt8[Tensor, "B 3 h w"]], Float[Tensor, "B C"]],
    source: Source,
    preprocessing: Preprocessing,
    *,
    device: torch.device,
    teacher: Callable[[Int64[ndarray, "n"]], TopK] | None = None,
    workers: int = 0,
    batch_size: int = BATCH_SIZE,
    on_bad_image: Literal["error", "skip"] = "error",
    rank: int = 0,
    world: int = 1,
    reduce: Callable[[Tensor], Tensor] = lambda sums: sums,
    share: float = 1.0,
    on_done: Callable[[int], object] = lambda num_images: None,
) -> dict[str, float | int]:
    """The figures of a model on a set of images, over all processes.

    Args:
        predict: the model's logits of images on the device, in evaluation mode.
        source: the images; each is cropped in its centre by `preprocessing.crop_fraction`.
        preprocessing: the model's.
        device: where the model is.
        teacher: the cached logits of the source's rows, see `stored_signals`; or None.
        workers: loader processes; 0 decodes in this one.
        batch_size: images at once.
        on_bad_image: stop at an image that cannot be decoded, or leave such images out of all figures.
        rank: this process.
        world: how many processes share the images.
        reduce: sums a tensor on the device over all processes.
        share: the share of the disk for remote images that this may use.
        on_done: called with the number of images of each batch.

    Returns:
        `top1`, `top5` and `ece` (expected calibration error, 15 bins of equal width; Guo et al. 2017) in percent, `nll`
        in nats; with a teacher also `agreement` (same first choice, percent) and `kl` (teacher to model at T = 1,
        nats; from a truncated teacher its tail is one class, a lower bound). Where bad images are left out
        `val_bad_images`, how many.

    Raises:
        UndecodableImageError: an image cannot be decoded and is not to be left out; names the sample.
        DataError: none can be decoded, or one cannot be read.
    """
    mine = functools.partial(evaluation_items, len(source), batch_size=batch_size, rank=rank, world=world)
    ahead = prefetch_shards(source, [mine], lambda item: item.rows, in_flight=in_flight(workers), share=share)
    policy = Fixed(crop_fraction=preprocessing.crop_fraction)
    decoder = view_decoder(source, policy, [preprocessing], skip_bad_images=on_bad_image == "skip")
    all_labels = source.known_labels()
    sums = torch.zeros(NUM_SUMS, dtype=torch.float64, device=device)
    with contextlib.closing(ahead) as items, loading(decoder, items, processes=workers) as loaded:
        for each in loaded:
            good = np.array(each.good)
            rows = each.request.rows[good]
            if len(rows):  # models need not take empty batches
                images = each.images[0].flatten(0, 1)
                logits = predict(_send(images if good.all() else _select(images, good), device)).float()
                labels = _send(torch.from_numpy(all_labels[rows]), device)
                sums += batch_sums(logits, labels, _send(teacher(rows), device) if teacher else None)
            on_done(len(good))
    sums = reduce(sums)
    if not num_samples(sums):
        raise DataError(f"{source.location}: none of the {len(source)} validation images can be decoded; replace them")
    figures = to_figures(sums, has_teacher=teacher is not None)
    return figures | ({"val_bad_images": len(source) - num_samples(sums)} if on_bad_image == "skip" else {})


def evaluation_items(num_samples: int, *, batch_size: int, rank: int, world: int) -> Iterator[ViewRequest]:
    """One process's share of an evaluation pass: each sample once, for any batch size and number of processes.

    The batches are the same on any number of processes, which kernels' rounding depends on; a process has neighbouring
    ones, and so shards of its own.
    """
    starts = range(0, num_samples, batch_size)
    for first in starts[len(starts) * rank // world : len(starts) * (rank + 1) // world]:
        yield ViewRequest(np.arange(first, min(first + batch_size, num_samples)), (0,))


def _select(images: UInt8[Tensor, "B 3 h w"], good: Bool[ndarray, "B"]) -> UInt8[Tensor, "b 3 h w"]:
    return images[torch.from_numpy(good)].contiguous(memory_format=torch.channels_last)


def _send(values: Sent, device: torch.device) -> Sent:
    """To the device; from pageable memory a copy would wait until a GPU is done with all that came before."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
