"""Loader processes: work items in, the memory that they filled out, in the items' order; the memory is used again."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pld.buffer_pool import lent
from pld.errors import DataError, PLDError
from pld.images import Source

Item = TypeVar("Item")
AnyItem = TypeVar("AnyItem", contravariant=True)

# Items that each worker has before it.
_PREFETCH = 2


@runtime_checkable
class Filler(Protocol[AnyItem]):
    """What is done in the processes. It travels to them, as its items do."""

    def num_bytes(self, item: AnyItem) -> int:
        """The memory that an item wants."""

    def fill(self, item: AnyItem, memory: UInt8[Tensor, "bytes"], on_row: Callable[[int], object]) -> list[bool]:
        """Write an item's images to memory of at least so many bytes; `on_row` is told which row comes next.

        Returns:
            Which rows' images are there.

        Raises:
            PLDError: whatever the user can mend.
        """


class _Blocks:
    """Shared memory for items. A block is free again when nothing refers to what is in it any more."""

    def __init__(self, num: int, num_bytes: int) -> None:
        self.memory = torch.empty((num, num_bytes), dtype=torch.uint8)
        self.memory.share_memory_()
        self._free = deque(range(num))

    def take(self, num_bytes: int) -> int | None:
        """A block for so many bytes, if there is one."""
        return self._free.popleft() if self._free and num_bytes <= self.memory.shape[1] else None

    def lend(self, block: int) -> Tensor:
        """Its memory."""
        return lent(self.memory[block].numpy(), functools.partial(self._free.append, block))


class _Worker(Dataset[tuple[Tensor | None, list[bool]] | PLDError], Generic[Item]):
    """What a loader process does with an item and the block to write its images to.

    It returns memory only where it was given no block. An error that the user can mend is returned, not raised:
    DataLoader would wrap it in its worker's traceback.
    """

    def __init__(self, filler: Filler[Item], blocks: Tensor, at_work: Tensor) -> None:
        self._filler = filler
        self._blocks = blocks
        self._at_work = at_work

    def __getitem__(self, order: tuple[Item, int | None]) -> tuple[Tensor | None, list[bool]] | PLDError:
        item, block = order
        worker = get_worker_info()
        assert worker is not None
        note = functools.partial(self._at_work.numpy().__setitem__, worker.id)
        own = torch.empty(self._filler.num_bytes(item), dtype=torch.uint8) if block is None else None
        try:
            return own, self._filler.fill(item, self._blocks[block] if own is None else own, note)
        except PLDError as error:
            return error


def in_flight(workers: int) -> int:
    """When `in_processes` asks for item n, it has given what became of all up to n - in_flight."""
    return max(1, workers * _PREFETCH)


def in_processes(
    filler: Filler[Item],
    items: Iterable[Item],
    *,
    workers: int,
    block_bytes: int,
    held: int,
    at_work: Int64[Tensor, "workers"],
    context: str | None = None,
) -> Generator[tuple[Item, UInt8[Tensor, "bytes"], list[bool]], None, None]:
    """Each item, the memory that a process filled for it, and which of its rows are there; in the items' order.

    Args:
        filler: what the processes do.
        items: what there is to do.
        workers: processes, at least one.
        block_bytes: of an item; larger ones take longer.
        held: results that the caller works on at once.
        at_work: see `at_work_of`.
        context: how processes are started; PyTorch's default where None.

    Raises:
        PLDError: whatever a worker could not do, as it stands.
    """
    # While the caller asks for its next results it still has the last ones.
    blocks = _Blocks(workers * _PREFETCH + 2 * held, block_bytes)
    orders: deque[tuple[Item, int | None]] = deque()

    def order(item: Item) -> tuple[Item, int | None]:
        orders.append((item, blocks.take(filler.num_bytes(item))))
        return orders[-1]

    ending = torch.zeros(1, dtype=torch.uint8).share_memory_()
    loader = DataLoader(
        _Worker(filler, blocks.memory, at_work),
        sampler=map(order, items),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=_PREFETCH,
        multiprocessing_context=context,
        worker_init_fn=functools.partial(_end_with_the_main_process, ending),
    )
    with _at_exit(functools.partial(ending.fill_, 1)):
        for made in loader:
            item, block = orders.popleft()
            if isinstance(made, PLDError):
                raise made
            memory, good = made
            yield item, memory if block is None else blocks.lend(block), good


@contextlib.contextmanager
def _at_exit(callback: Callable[[], object]) -> Iterator[None]:
    """Should the interpreter end before the context does, `callback` is called."""
    atexit.register(callback)
    try:
        yield
    finally:
        atexit.unregister(callback)


def _as_it_is(made: object) -> object:
    return made


def _end_with_the_main_process(ending: UInt8[Tensor, "1"], worker: int) -> None:
    """Schedulers send SIGTERM to all processes of a job: it ends a worker only where the main process ends.

    That sends it to workers of loaders that nobody closed, and waits for them.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0) if ending.item() else None)


def at_work_of(workers: int) -> Int64[Tensor, "workers"]:
    """A shared place where each of `workers` processes notes the row that it is at; -1 before the first."""
    at_work = torch.full((workers,), -1, dtype=torch.int64)
    at_work.share_memory_()
    return at_work


@contextlib.contextmanager
def naming_the_dead(source: Source, at_work: Int64[Tensor, "workers"], option: str) -> Iterator[None]:
    """While processes are at work, what is told where one of them dies.

    Args:
        source: whose rows they are at.
        at_work: see `at_work_of`.
        option: by which the user says how many there are.

    Raises:
        DataError: a worker died, which PyTorch notices wherever the main process happens to be; names the samples that
            the workers were at.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        # A batch of which the dead worker still held the memory is a connection that is refused or ends.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        keys = ", ".join(source.key(row) for row in at_work.tolist() if row >= 0)
        raise DataError(
            f"{source.location}: a loader process died ({' '.join(str(error).split())}); loaders "
            f"were at the samples {keys}. Out of memory? Use fewer {option}; else look at these images"
        ) from error
