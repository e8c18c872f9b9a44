"""Batches for training: which rows in which order, and what replaces broken images."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int64
from numpy import ndarray
from torch import Tensor

from pld.errors import DataError
from pld.images import Source, epoch_order, global_batches
from pld.loading import LoadedViews, LoadTimes, ViewDecoder, ViewRequest, loading
from pld.signals import MixedLabels
from pld.views import Mixing, MixingPlan


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Views ready for the device: B = n V of them, image by image, and view by view within an image.

    Attributes:
        request: the n rows that the images are of, their V views, and how these are mixed.
        labels: int64 [B], or those of mixed images; None for images without labels.
        images: uint8 [B, 3, h, w], channels last, one for each of the decoder's outputs; on a GPU if it decoded them.
        bad_rows: rows that were asked for as well and have stand-ins.
    """

    request: ViewRequest
    labels: Tensor | MixedLabels | None
    images: tuple[Tensor, ...]
    bad_rows: tuple[int, ...] = ()


@contextlib.contextmanager
def load_batches(
    source: Source,
    decoder: ViewDecoder,
    requests: Iterable[ViewRequest],
    *,
    workers: int,
    held: int = 1,
    context: str | None = None,
    as_cached: bool = True,
    times: LoadTimes | None = None,
) -> Iterator[Iterator[Batch]]:
    """Batches for requests, in their order, for as long as the context lasts.

    The place of an image that cannot be decoded goes to the next good one of its batch, wrapping around, where the
    decoder skips bad images.

    Args:
        source: the images.
        decoder: of their views.
        requests: the first one is as large as any, or the larger ones take longer.
        workers: worker processes; 0 decodes in this one.
        held: batches that the caller works on at once.
        context: how processes are started; PyTorch's default where None.
        as_cached: also replace images that can no longer be mixed as requested, which a store has logits of; else they
            are trained unmixed.
        times: of so many workers, to be counted.

    Raises:
        UndecodableImageError: an image cannot be decoded and bad images are not skipped; names sample and option.
        DataError: an image cannot be read, a worker died, or no image of a batch is good.
    """
    with loading(decoder, requests, processes=workers, held=held, context=context, times=times) as views:
        yield (_batch(source, loaded, as_cached) for loaded in views)


def _batch(source: Source, loaded: LoadedViews[ViewRequest], as_cached: bool) -> Batch:
    request, mixing = loaded.request, loaded.mixing
    images = tuple(each.flatten(0, 1) for each in loaded.images)
    bad_rows: tuple[int, ...] = ()
    good = np.array(loaded.good)
    if as_cached and mixing is not None and request.mixing is not None:
        good &= (mixing.kinds == request.mixing.kinds).all(axis=1)
    if not good.all():
        places = np.array(stand_ins(good), dtype=np.int64)
        bad_rows = tuple(request.rows[~good].tolist())
        if not len(places):
            raise DataError(
                f"{source.location}: sample {source.key(bad_rows[0])} cannot be decoded, and none of "
                f"the {len(good)} images of its micro-batch can, so that nothing can take their places; replace them"
            )
        num_views = len(request.view_indexes)
        views = torch.from_numpy((places[:, None] * num_views + np.arange(num_views)).reshape(-1))
        images = tuple(each[views.to(each.device)].contiguous(memory_format=torch.channels_last) for each in images)
        if torch.cuda.is_available():
            images = tuple(each if each.is_cuda else each.pin_memory() for each in images)
        mixing = None if mixing is None else mixing[places]
        request = ViewRequest(request.rows[places], request.view_indexes)
    if mixing is not request.mixing:
        request = dataclasses.replace(request, mixing=mixing)
    return Batch(request, _labels(source, request), images, bad_rows)


def _labels(source: Source, request: ViewRequest) -> Tensor | MixedLabels | None:
    """Of each view; in pinned memory if there is a GPU."""
    if source.labels is None:
        return None
    own = torch.from_numpy(np.repeat(source.labels[request.rows], len(request.view_indexes)))
    own = own.pin_memory() if torch.cuda.is_available() else own
    if request.mixing is None:
        return own
    others = torch.from_numpy(source.labels[request.mixing.partners].reshape(-1))
    share = torch.from_numpy(request.mixing.shares.reshape(-1)).float()
    if torch.cuda.is_available():
        others, share = others.pin_memory(), share.pin_memory()
    return MixedLabels(labels=own, others=others, share=share)


def stand_ins(good: Sequence[bool] | Bool[ndarray, "n"]) -> list[int]:
    """For each position, the good one whose image fills it: itself or the next, wrapping around; empty if none is."""
    found = [place for place, is_good in enumerate(good) if is_good]
    return [found[bisect.bisect_left(found, place) % len(found)] for place in range(len(good)) if found]


def epoch_items(
    source: Source,
    *,
    seed: int,
    epoch: int,
    view_indexes: Sequence[int],
    batch_size: int,
    streams: int,
    rank: int,
    world: int,
    plan: MixingPlan | None = None,
    micro_batches: int = 1,
    first_batch: int = 0,
) -> Iterator[ViewRequest]:
    """One process's share of each global batch of an epoch; the last partial batch is dropped.

    Args:
        source: the training images.
        seed: of the order.
        epoch: 0, 1, ...
        view_indexes: the V views of all its images.
        batch_size: views in a global batch; a multiple of V x world x micro_batches.
        streams: as for `epoch_order`.
        rank: this process.
        world: how many there are.
        plan: what the images are mixed with, if they are.
        micro_batches: items to cut a process's share into.
        first_batch: how many global batches to pass over, decoding nothing.
    """
    partners = [plan.partners(view_index) for view_index in view_indexes] if plan else []
    # Each view has its own pairs; those of the first are kept together.
    together = partners[0][: len(source)] if partners else None
    order = epoch_order(seed, epoch, source.shard_sizes, streams, source.shuffle_window, together)
    batches = global_batches(order, batch_size // len(view_indexes))
    for batch in itertools.islice(batches, first_batch, None):
        for rows in np.split(deal(batch, rank, world, in_pairs=plan is not None), micro_batches):
            yield ViewRequest(rows, tuple(view_indexes), mixing=_mixing(plan, view_indexes, rows, partners))


def _mixing(
    plan: MixingPlan | None,
    view_indexes: Sequence[int],
    rows: Int64[ndarray, "n"],
    partners: Sequence[Int64[ndarray, "N"]],
) -> Mixing | None:
    """How the views of some rows are mixed, [n, V]; None without a plan."""
    if plan is None:
        return None
    views = zip(view_indexes, partners, strict=True)
    return Mixing.stack([plan.mixing(view_index, rows, of_view) for view_index, of_view in views])


def deal(rows: Int64[ndarray, "G"], rank: int, world: int, *, in_pairs: bool) -> Int64[ndarray, "g"]:
    """One process's share of a global batch: every world-th row, or pair of rows where pairs can be dealt evenly."""
    if in_pairs and len(rows) % (2 * world) == 0:
        return rows.reshape(-1, 2)[rank::world].reshape(-1)
    return rows[rank::world]


def rows_read(request: ViewRequest) -> Int64[ndarray, "m"]:
    """The rows whose images a request needs: its own and those that they are mixed with."""
    if request.mixing is None:
        return request.rows
    return np.union1d(request.rows, request.mixing.partners)
