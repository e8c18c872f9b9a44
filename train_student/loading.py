"""Batches for work items, made by loader processes."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from pld.begun_ahead import in_order
from pld.loader_processes import at_work_of, in_processes, naming_the_dead
from train_student.input import Batch, GpuViewDataset, ViewDataset, WorkItem

_Filled = tuple[WorkItem, Tensor, list[bool]]


def load(
    dataset: ViewDataset | GpuViewDataset,
    items: Iterable[WorkItem],
    *,
    workers: int,
    held: int = 1,
    at_work: Tensor | None = None,
    context: str | None = None,
) -> Generator[Batch, None, None]:
    """Batches for `items`, in their order, made by `workers` processes (0: in this one).

    Args:
        dataset: makes them.
        items: the first one is as large as any, or the larger ones take longer.
        workers: loader processes.
        held: batches that the caller works on at once.
        at_work: int64 [workers], shared; where each worker notes the row that it begins.
        context: how processes are started; PyTorch's default where None.

    Raises:
        PLDError: whatever a worker could not load, as it stands.
    """
    at_work = at_work_of(workers) if at_work is None else at_work
    filled = _by_processes(dataset, iter(items), workers, held, at_work, context) if workers else _here(dataset, items)
    with contextlib.closing(filled):
        if not torch.cuda.is_available():
            yield from map(functools.partial(_batch, dataset), filled)
            return
        with ThreadPoolExecutor(1) as pool:
            yield from in_order(pool, lambda each: _batch(dataset, each).pinned(), filled, ahead=1)


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


def _batch(dataset: ViewDataset | GpuViewDataset, filled: _Filled) -> Batch:
    item, memory, good = filled
    assert all(good)
    return Batch(item, torch.from_numpy(dataset.source.labels[item.rows]), dataset.images(item, memory))


@contextlib.contextmanager
def loading(
    dataset: ViewDataset | GpuViewDataset, items: Iterable[WorkItem], *, workers: int, held: int = 1
) -> Iterator[Iterator[Batch]]:
    """`load` for as long as the context lasts.

    Raises:
        DataError: a worker died; names the samples that the workers were at.
    """
    at_work = at_work_of(workers)
    with (
        contextlib.closing(load(dataset, items, workers=workers, held=held, at_work=at_work)) as batches,
        naming_the_dead(dataset.source, at_work, "--workers"),
    ):
        yield batches
