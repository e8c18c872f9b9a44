"""Batches for training: which rows in which order, and what replaces broken images."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pld.errors import DataError
from pld.images import Source, epoch_order, global_batches
from pld.loading import LoadedViews, ViewDecoder, ViewRequest, loading
from pld.signals import MixedLabels


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Views ready for the device.

    Attributes:
        request: the rows that the images are of, and their view.
        labels: int64 [B], or those of mixed images; None for images without labels.
        images: uint8 [B, 3, h, w], channels last, one for each of the decoder's outputs; on a GPU if it decoded them.
        bad_rows: rows that were asked for as well and cannot be decoded.
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
) -> Iterator[Iterator[Batch]]:
    """Batches for requests of one view each, in their order, for as long as the context lasts.

    The place of an image that cannot be decoded goes to the next good one of its batch, wrapping around, where the
    decoder skips bad images.

    Args:
        source: the images.
        decoder: of their views.
        requests: the first one is as large as any, or the larger ones take longer.
        workers: worker processes; 0 decodes in this one.
        held: batches that the caller works on at once.
        context: how processes are started; PyTorch's default where None.

    Raises:
        UndecodableImageError: an image cannot be decoded and bad images are not skipped; names sample and option.
        DataError: an image cannot be read, a worker died, or no image of a batch is good.
    """
    with loading(decoder, requests, processes=workers, held=held, context=context) as views:
        yield (_batch(source, loaded) for loaded in views)


def _batch(source: Source, loaded: LoadedViews[ViewRequest]) -> Batch:
    request, good = loaded.request, loaded.good
    images = tuple(each.flatten(0, 1) for each in loaded.images)
    bad_rows: tuple[int, ...] = ()
    if not all(good):
        places = stand_ins(good)
        bad_rows = tuple(request.rows[~np.array(good)].tolist())
        if not places:
            raise DataError(
                f"{source.location}: sample {source.key(bad_rows[0])} cannot be decoded, and none of "
                f"the {len(good)} images of its micro-batch can, so that nothing can take their places; replace them"
            )
        images = tuple(each[places].contiguous(memory_format=torch.channels_last) for each in images)
        if torch.cuda.is_available():
            images = tuple(each if each.is_cuda else each.pin_memory() for each in images)
        request = ViewRequest(request.rows[places], request.view_indexes)
    labels = None if source.labels is None else torch.from_numpy(source.labels[request.rows])
    if labels is not None and torch.cuda.is_available():
        labels = labels.pin_memory()
    return Batch(request, labels, images, bad_rows)


def stand_ins(good: Sequence[bool]) -> list[int]:
    """For each position, the good one whose image fills it: itself or the next, wrapping around; empty if none is."""
    found = [place for place, is_good in enumerate(good) if is_good]
    return [found[bisect.bisect_left(found, place) % len(found)] for place in range(len(good)) if found]


def epoch_items(
    source: Source,
    *,
    seed: int,
    epoch: int,
    view_index: int,
    batch_size: int,
    streams: int,
    rank: int,
    world: int,
    micro_batches: int = 1,
    first_batch: int = 0,
) -> Iterator[ViewRequest]:
    """One process's share of each global batch of an epoch; the last partial batch is dropped.

    Args:
        source: the training images.
        seed: of the order.
        epoch: 0, 1, ...
        view_index: the view of all its images.
        batch_size: of a global batch; a multiple of world x micro_batches.
        streams: as for `epoch_order`.
        rank: this process.
        world: how many there are.
        micro_batches: items to cut a process's share into.
        first_batch: how many global batches to pass over, decoding nothing.
    """
    order = epoch_order(seed, epoch, source.shard_sizes, streams, source.shuffle_window)
    for rows in itertools.islice(global_batches(order, batch_size), first_batch, None):
        for share in np.split(rows[rank::world], micro_batches):
            yield ViewRequest(share, (view_index,))
