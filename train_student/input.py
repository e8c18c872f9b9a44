"""From rows to batches of uint8 views: what each loader worker does, and in which order."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pld.errors import DataError, PLDError
from pld.images import Source, epoch_order, global_batches
from pld.images.preprocessing import Preprocessing
from pld.views import Policy, apply_view, draw_view

# Items that each worker has in hand.
_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class WorkItem:
    """One process's share of a global batch: which rows, in which view. Workers know nothing else of the epoch."""

    view_index: int
    rows: Int64[ndarray, "B"]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Views ready for the device.

    Attributes:
        item: what was asked for.
        labels: int64 [B].
        images: uint8 [B, 3, h, w], channels last, one for each preprocessing asked for.
    """

    item: WorkItem
    labels: Tensor
    images: tuple[Tensor, ...]

    def pin_memory(self) -> Batch:
        """The same in pinned memory; called by DataLoader."""
        return Batch(self.item, self.labels.pin_memory(), tuple(images.pin_memory() for images in self.images))


class ViewDataset(Dataset[Batch | PLDError]):
    """Maps a WorkItem to its Batch; student and live teacher may want different sizes of the same crop.

    An error that the user can mend is returned, not raised: DataLoader would wrap it in its worker's traceback.
    """

    def __init__(self, source: Source, policy: Policy, preprocessings: Sequence[Preprocessing]) -> None:
        self.source = source
        self.policy = policy
        self.preprocessings = tuple(preprocessings)
        self._at_work: Tensor | None = None

    def watch(self, workers: int) -> None:
        """Let the main process see which row each worker is at."""
        self._at_work = torch.full((workers,), -1, dtype=torch.int64)
        self._at_work.share_memory_()  # type: ignore[no-untyped-call]

    def rows_at_work(self) -> list[int]:
        """The rows that workers are at; empty without workers."""
        return [] if self._at_work is None else [row for row in self._at_work.tolist() if row >= 0]

    def __getitem__(self, item: WorkItem) -> Batch | PLDError:
        worker = get_worker_info()
        outputs = [_empty_images(len(item.rows), preprocessing.input_size) for preprocessing in self.preprocessings]
        try:
            for position, row in enumerate(item.rows.tolist()):
                if self._at_work is not None and worker is not None:
                    self._at_work[worker.id] = row
                image = self.source.image(row)
                size = (image.shape[1], image.shape[2])
                view = draw_view(self.source.key(row), item.view_index, size, self.policy)
                for images, preprocessing in zip(outputs, self.preprocessings, strict=True):
                    images[position] = apply_view(image, view, preprocessing.input_size, preprocessing.interpolation)
        except PLDError as error:
            return error
        return Batch(item, torch.from_numpy(self.source.labels[item.rows]), tuple(outputs))


def _empty_images(num: int, size: tuple[int, int]) -> UInt8[Tensor, "B 3 h w"]:
    return torch.empty((num, 3, *size), dtype=torch.uint8, memory_format=torch.channels_last)


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


def in_flight(workers: int) -> int:
    """When `load` asks for item n, it has given the batches of all up to n - in_flight."""
    return max(1, workers * _AHEAD)


def load(
    dataset: ViewDataset, items: Iterable[WorkItem], *, workers: int, context: str | None = None
) -> Generator[Batch, None, None]:
    """Batches for `items`, in their order, made by `workers` processes (0: in this one).

    Raises:
        PLDError: whatever a worker could not load, as it stands.
    """
    settings: dict[str, Any] = {"multiprocessing_context": context, "prefetch_factor": _AHEAD} if workers else {}
    if workers:
        dataset.watch(workers)
    loader = DataLoader(
        dataset,
        sampler=items,
        batch_size=None,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_leave_sigterm_alone,
        **settings,
    )
    for batch in loader:
        if isinstance(batch, PLDError):
            raise batch
        yield batch


def _leave_sigterm_alone(worker: int) -> None:
    """Schedulers send it to all processes of a job; the main process saves first, and ends its workers itself."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextlib.contextmanager
def loading(dataset: ViewDataset, items: Iterable[WorkItem], *, workers: int) -> Iterator[Iterator[Batch]]:
    """`load` for as long as the context lasts.

    Raises:
        DataError: a worker died, which PyTorch notices wherever the main process happens to be; names the samples that
            the workers were at.
    """
    with contextlib.closing(load(dataset, items, workers=workers)) as batches:
        try:
            yield batches
        except (RuntimeError, ConnectionError, EOFError) as error:
            # A batch of which the dead worker still held the memory is a connection that is refused or ends.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            keys = ", ".join(dataset.source.key(row) for row in dataset.rows_at_work())
            raise DataError(
                f"{dataset.source.location}: a loader process died ({' '.join(str(error).split())}); loaders "
                f"were at the samples {keys}. Out of memory? Use fewer --workers; else look at these images"
            ) from error
