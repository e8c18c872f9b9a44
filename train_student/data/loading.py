"""Batches for work items, made by loader processes."""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from pld.errors import DataError
from pld.loading.worker_processes import at_work_of, in_processes, naming_the_dead
from pld.prefetch import in_order
from train_student.data.batches import Batch, GpuViewDataset, ViewDataset, WorkItem

_Filled = tuple[WorkItem, Tensor, list[bool]]


def load(
    dataset: ViewDataset | GpuViewDataset,
    items: Iterable[WorkItem],
    *,
    workers: int,
    held: int = 1,
    fill_gaps: bool = True,
    at_work: Tensor | None = None,
    context: str | None = None,
) -> Generator[Batch, None, None]:
    """Batches for `items`, in their order, made by `workers` processes (0: in this one).

    Images that cannot be decoded come up here only where the dataset skips them.

    Args:
        dataset: makes them.
        items: the first one is as large as any, or the larger ones take longer.
        workers: loader processes.
        held: batches that the caller works on at once.
        fill_gaps: each such image's place goes to the next good one of its batch, around its end; else batches are as
            much smaller, perhaps empty.
        at_work: int64 [workers], shared; where each worker notes the row that it begins.
        context: how processes are started; PyTorch's default where None.

    Raises:
        PLDError: whatever a worker could not load, as it stands.
        DataError: there is a gap and nothing to fill it with: no image of the batch can be decoded.
    """
    at_work = at_work_of(workers) if at_work is None else at_work
    filled = _by_processes(dataset, iter(items), workers, held, at_work, context) if workers else _here(dataset, items)
    with contextlib.closing(filled):
        if not torch.cuda.is_available():
            yield from map(functools.partial(_batch, dataset, fill_gaps), filled)
            return
        with ThreadPoolExecutor(1) as pool:
            yield from in_order(pool, lambda each: _batch(dataset, fill_gaps, each).pinned(), filled, ahead=1)


def _here(dataset: ViewDataset | GpuViewDataset, items: Iterable[WorkItem]) -> Generator[_Filled, None, None]:
    for item in items:
        memory = torch.empty(dataset.num_bytes(item), dtype=torch.uint8)
        yield item, memory, dataset.fill(item, memory, lambda row: None)


def _by_processes(
    dataset: ViewDataset | GpuViewDataset,
    items: Iterator[WorkItem],
    workers: int,
    held: int,
    at_work: Tensor,
    context: str | None,
) -> Generator[_Filled, None, None]:
    first = list(itertools.islice(items, 1))
    return in_processes(
        dataset,
        itertools.chain(first, items),
        workers=workers,
        block_bytes=max(map(dataset.block_bytes, first), default=0),
        held=held,
        at_work=at_work,
        context=context,
    )


def _batch(dataset: ViewDataset | GpuViewDataset, fill_gaps: bool, filled: _Filled) -> Batch:
    item, memory, told = filled
    images, good = dataset.ready(item, memory, told)
    bad_rows: tuple[int, ...] = ()
    if not all(good):
        places = stand_ins(good) if fill_gaps else np.flatnonzero(good).tolist()
        bad_rows = tuple(item.rows[~np.array(good)].tolist())
        if fill_gaps and not places:
            raise DataError(
                f"{dataset.source.location}: sample {dataset.source.key(bad_rows[0])} cannot be decoded, and none of "
                f"the {len(good)} images of its micro-batch can, so that nothing can take their places; replace them"
            )
        images = tuple(each[places].contiguous(memory_format=torch.channels_last) for each in images)
        item = WorkItem(item.view_index, item.rows[places])
    return Batch(item, torch.from_numpy(dataset.source.labels[item.rows]), images, bad_rows)


def stand_ins(good: Sequence[bool]) -> list[int]:
    """For each place the one whose image it gets: the next good one, around the end; nothing where none is good."""
    found = [place for place, is_good in enumerate(good) if is_good]
    return [found[bisect.bisect_left(found, place) % len(found)] for place in range(len(good)) if found]


@contextlib.contextmanager
def loading(
    dataset: ViewDataset | GpuViewDataset,
    items: Iterable[WorkItem],
    *,
    workers: int,
    held: int = 1,
    fill_gaps: bool = True,
) -> Iterator[Iterator[Batch]]:
    """`load` for as long as the context lasts.

    Raises:
        DataError: a worker died; names the samples that the workers were at.
    """
    at_work = at_work_of(workers)
    with (
        contextlib.closing(
            load(dataset, items, workers=workers, held=held, fill_gaps=fill_gaps, at_work=at_work)
        ) as batches,
        naming_the_dead(dataset.source, at_work, "--workers"),
    ):
        yield batches
