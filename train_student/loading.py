"""Loader processes: work items in, batches out, through shared memory that is used again."""

from __future__ import annotations

import contextlib
import functools
import itertools
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pld.begun_ahead import in_order
from pld.errors import DataError, PLDError
from pld.reused_memory import lent
from train_student.input import Batch, ViewDataset, WorkItem

# Batches that each worker has before it.
_PREFETCH = 2


class _Blocks:
    """Shared memory for batches. A block is free again when nothing refers to its batch any more."""

    def __init__(self, num: int, num_bytes: int) -> None:
        self.memory = torch.empty((num, num_bytes), dtype=torch.uint8)
        self.memory.share_memory_()  # type: ignore[no-untyped-call]
        self._free = deque(range(num))

    def take(self, num_bytes: int) -> int | None:
        """A block for so many bytes, if there is one."""
        return self._free.popleft() if self._free and num_bytes <= self.memory.shape[1] else None

    def lend(self, block: int) -> Tensor:
        """Its memory."""
        return lent(self.memory[block].numpy(), functools.partial(self._free.append, block))


class _Maker(Dataset[tuple[Tensor, ...] | PLDError | None]):
    """What a loader process does with an item and the block to write its images to.

    It returns the images only where it was given no block. An error that the user can mend is returned, not raised:
    DataLoader would wrap it in its worker's traceback.
    """

    def __init__(self, dataset: ViewDataset, memory: Tensor, at_work: Tensor) -> None:
        self._dataset = dataset
        self._memory = memory
        self._at_work = at_work

    def __getitem__(self, order: tuple[WorkItem, int | None]) -> tuple[Tensor, ...] | PLDError | None:
        item, block = order
        worker = get_worker_info()
        assert worker is not None
        note = functools.partial(self._at_work.numpy().__setitem__, worker.id)
        try:
            if block is None:
                return _images(self._dataset, item, note)
            self._dataset.fill(item, self._dataset.images(self._memory[block], len(item.rows)), note)
        except PLDError as error:
            return error
        return None


def in_flight(workers: int) -> int:
    """When `load` asks for item n, it has given the batches of all up to n - in_flight."""
    return max(1, workers * _PREFETCH)


def load(
    dataset: ViewDataset,
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
    batches = _in_processes(dataset, iter(items), workers, held, at_work, context) if workers else _here(dataset, items)
    with contextlib.closing(batches):
        if not torch.cuda.is_available():
            yield from batches
            return
        with ThreadPoolExecutor(1) as pool:
            yield from in_order(pool, Batch.pinned, batches, ahead=1)


def _here(dataset: ViewDataset, items: Iterable[WorkItem]) -> Generator[Batch, None, None]:
    for item in items:
        yield _batch(dataset, item, _images(dataset, item, lambda row: None))


def _in_processes(
    dataset: ViewDataset,
    items: Iterator[WorkItem],
    workers: int,
    held: int,
    at_work: Tensor | None,
    context: str | None,
) -> Generator[Batch, None, None]:
    first = list(itertools.islice(items, 1))
    # While the caller asks for its next batches it still has the last ones.
    blocks = _Blocks(
        workers * _PREFETCH + 2 * held, dataset.num_bytes(max((len(item.rows) for item in first), default=0))
    )
    orders: deque[tuple[WorkItem, int | None]] = deque()

    def order(item: WorkItem) -> tuple[WorkItem, int | None]:
        orders.append((item, blocks.take(dataset.num_bytes(len(item.rows)))))
        return orders[-1]

    maker = _Maker(dataset, blocks.memory, at_work_of(workers) if at_work is None else at_work)
    loader = DataLoader(
        maker,
        sampler=map(order, itertools.chain(first, items)),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_PREFETCH,
        multiprocessing_context=context,
        worker_init_fn=_leave_sigterm_alone,
    )
    for made in loader:
        item, block = orders.popleft()
        if isinstance(made, PLDError):
            raise made
        yield _batch(
            dataset, item, tuple(made) if block is None else dataset.images(blocks.lend(block), len(item.rows))
        )


def _leave_sigterm_alone(worker: int) -> None:
    """Schedulers send it to all processes of a job; the main process saves first, and ends its workers itself."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def at_work_of(workers: int) -> Tensor:
    """A shared place where each of `workers` processes notes the row that it is at; -1 before the first."""
    at_work = torch.full((workers,), -1, dtype=torch.int64)
    at_work.share_memory_()  # type: ignore[no-untyped-call]
    return at_work


def _images(dataset: ViewDataset, item: WorkItem, on_row: Callable[[int], object]) -> tuple[Tensor, ...]:
    num = len(item.rows)
    images = dataset.images(torch.empty(dataset.num_bytes(num), dtype=torch.uint8), num)
    dataset.fill(item, images, on_row)
    return images


def _batch(dataset: ViewDataset, item: WorkItem, images: tuple[Tensor, ...]) -> Batch:
    return Batch(item, torch.from_numpy(dataset.source.labels[item.rows]), images)


@contextlib.contextmanager
def loading(
    dataset: ViewDataset, items: Iterable[WorkItem], *, workers: int, held: int = 1
) -> Iterator[Iterator[Batch]]:
    """`load` for as long as the context lasts.

    Raises:
        DataError: a worker died, which PyTorch notices wherever the main process happens to be; names the samples that
            the workers were at.
    """
    at_work = at_work_of(workers)
    with contextlib.closing(load(dataset, items, workers=workers, held=held, at_work=at_work)) as batches:
        try:
            yield batches
        except (RuntimeError, ConnectionError, EOFError) as error:
            # A batch of which the dead worker still held the memory is a connection that is refused or ends.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            keys = ", ".join(dataset.source.key(row) for row in at_work.tolist() if row >= 0)
            raise DataError(
                f"{dataset.source.location}: a loader process died ({' '.join(str(error).split())}); loaders "
                f"were at the samples {keys}. Out of memory? Use fewer --workers; else look at these images"
            ) from error
