"""From rows to batches of uint8 views: what a loader makes, and in which order."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray
from torch import Tensor

from pld.errors import UndecodableImageError
from pld.images import Source, epoch_order, global_batches
from pld.loading.nvjpeg import EncodedViews
from pld.views import Policy, apply_view
from pld.views.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class WorkItem:
    """One process's share of a global batch: which rows, in which view. Workers know nothing else of the epoch."""

    view_index: int
    rows: Int64[ndarray, "B"]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Views ready for the device.

    Attributes:
        item: what was asked for; its rows are those that the images are of.
        labels: int64 [B].
        images: uint8 [B, 3, h, w], channels last, one for each preprocessing asked for; on a GPU if that decoded them.
        bad_rows: what was asked for as well and cannot be decoded.
    """

    item: WorkItem
    labels: Tensor
    images: tuple[Tensor, ...]
    bad_rows: tuple[int, ...] = ()

    def pinned(self) -> Batch:
        """What is on the CPU in page-locked memory, from which a GPU fetches by itself."""
        images = tuple(images if images.is_cuda else images.pin_memory() for images in self.images)
        return dataclasses.replace(self, labels=self.labels.pin_memory(), images=images)


class ViewDataset:
    """Makes the views of work items; student and live teacher may want different sizes of the same crop.

    With `skip_bad_images` those that cannot be decoded are told; else they are an error.
    """

    def __init__(
        self, source: Source, policy: Policy, preprocessings: Sequence[Preprocessing], *, skip_bad_images: bool = False
    ) -> None:
        self.source = source
        self.policy = policy
        self.preprocessings = tuple(preprocessings)
        self._skip_bad_images = skip_bad_images

    def num_bytes(self, item: WorkItem) -> int:
        """Bytes of all images of an item."""
        return sum(3 * len(item.rows) * math.prod(preprocessing.input_size) for preprocessing in self.preprocessings)

    def block_bytes(self, item: WorkItem) -> int:
        """Memory that will do for other items of as many rows."""
        return self.num_bytes(item)

    def images(self, item: WorkItem, memory: UInt8[Tensor, "bytes"]) -> tuple[Tensor, ...]:
        """Memory that is large enough as an item's images, channels last, for each preprocessing."""
        images, used = [], 0
        for preprocessing in self.preprocessings:
            shape = (len(item.rows), *preprocessing.input_size, 3)
            images.append(memory[used : used + math.prod(shape)].view(shape).permute(0, 3, 1, 2))
            used += math.prod(shape)
        return tuple(images)

    def ready(
        self, item: WorkItem, memory: UInt8[Tensor, "bytes"], good: list[bool]
    ) -> tuple[tuple[Tensor, ...], list[bool]]:
        """The images that `fill` wrote, and which of them are there, as it said."""
        return self.images(item, memory), good

    def fill(self, item: WorkItem, memory: UInt8[Tensor, "bytes"], on_row: Callable[[int], object]) -> list[bool]:
        """Write an item's views to `memory`, as `images` lays them out; `on_row` is told which row comes next.

        Returns:
            Which of them are there.

        Raises:
            UndecodableImageError: an image is none and is not to be skipped; names the sample and the option.
            DataError: it cannot be read.
        """
        good = []
        with _naming_the_option():
            for row, *places in zip(item.rows.tolist(), *self.images(item, memory), strict=True):
                on_row(row)
                good.append(self._write(row, item.view_index, places))
        return good

    def _write(self, row: int, view_index: int, places: Sequence[Tensor]) -> bool:
        """One image's view for each preprocessing; whether it could be decoded."""
        try:
            image, (view,) = self.source.views(row, [view_index], self.policy)
        except UndecodableImageError:
            if not self._skip_bad_images:
                raise
            return False
        for out, preprocessing in zip(places, self.preprocessings, strict=True):
            apply_view(image, view, preprocessing.input_size, preprocessing.interpolation, out=out)
        return True


class GpuViewDataset:
    """The same from nvJPEG on a GPU: loaders read and draw, `ready` decodes and cuts."""

    def __init__(
        self,
        source: Source,
        policy: Policy,
        preprocessings: Sequence[Preprocessing],
        gpu: torch.device,
        *,
        skip_bad_images: bool = False,
    ) -> None:
        self.source = source
        self._encoded = EncodedViews(source=source, policy=policy, skip_bad_images=skip_bad_images)
        self._preprocessings = tuple(preprocessings)
        self._gpu = gpu

    def num_bytes(self, item: WorkItem) -> int:
        """Bytes of an item's files."""
        return self._encoded.num_bytes(item.rows.tolist(), 1)

    def block_bytes(self, item: WorkItem) -> int:
        """Memory that will do for most items of as many rows, whose files may be larger."""
        return 2 * self.num_bytes(item)

    def ready(
        self, item: WorkItem, memory: UInt8[Tensor, "bytes"], good: list[bool]
    ) -> tuple[tuple[Tensor, ...], list[bool]]:
        """What `fill` wrote as images on the GPU, channels last, for each preprocessing, and which of them are there.

        Raises:
            UndecodableImageError: only now an image turns out to be none, and it is not to be skipped.
        """
        views, errors = self._encoded.try_cut(item.rows.tolist(), 1, memory, self._preprocessings, self._gpu)
        with _naming_the_option():
            for error in errors.values():
                if not self._encoded.skip_bad_images:
                    raise error
        still_good = [is_good and place not in errors for place, is_good in enumerate(good)]
        return tuple(images[:, 0] for images in views), still_good

    def fill(self, item: WorkItem, memory: UInt8[Tensor, "bytes"], on_row: Callable[[int], object]) -> list[bool]:
        """Write an item's files and views; see `EncodedViews.write`."""
        with _naming_the_option():
            return self._encoded.write(item.rows.tolist(), [item.view_index], memory, on_row)


def view_dataset(
    source: Source,
    policy: Policy,
    preprocessings: Sequence[Preprocessing],
    gpu: torch.device | None,
    *,
    skip_bad_images: bool = False,
) -> ViewDataset | GpuViewDataset:
    """What makes views; with nvJPEG on a GPU, if one is given."""
    if gpu:
        return GpuViewDataset(source, policy, preprocessings, gpu, skip_bad_images=skip_bad_images)
    return ViewDataset(source, policy, preprocessings, skip_bad_images=skip_bad_images)


@contextlib.contextmanager
def _naming_the_option() -> Iterator[None]:
    """An image that cannot be decoded is an error that also says how to go on without it."""
    try:
        yield
    except UndecodableImageError as error:
        raise UndecodableImageError(
            f"{error}; replace the image, or go on without such images: --on_bad_image skip"
        ) from error


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
) -> Iterator[WorkItem]:
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
            yield WorkItem(view_index, share)


def evaluation_items(num_samples: int, *, batch_size: int, rank: int, world: int) -> Iterator[WorkItem]:
    """One process's share of a pass over everything, each sample exactly once whatever divides what.

    The batches are the same on any number of processes, which kernels' rounding depends on; a process has neighbouring
    ones, and so shards of its own.
    """
    starts = range(0, num_samples, batch_size)
    for first in starts[len(starts) * rank // world : len(starts) * (rank + 1) // world]:
        yield WorkItem(0, np.arange(first, min(first + batch_size, num_samples)))
