"""Worker processes that fill shared memory for requests, in the requests' order.

PyTorch's DataLoader runs them. By itself it allocates and maps new shared memory for each batch, in /dev/shm, which
costs more than copying; here memory is reused.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pld.buffer_pool import lend
from pld.errors import ConfigError, DataError, PLDError
from pld.images.dataset import ImageDataset
from pld.loading.limits import PREFETCH, Loaders, allow_open_files, check_loaders, fitting_prefetch
from pld.loading.load_times import LoadTimes
from pld.loading.machine import Machine
from pld.loading.shared_memory import SharedMemory
from pld.loading.view_decoder import ViewDecoder, ViewRequest
from pld.logs import Setup, current_setup, set_up_logs
from pld.process.stopping import held_back, leave_to_parent

_LOG = logging.getLogger(__name__)

Request = TypeVar("Request", bound=ViewRequest)


def in_flight(processes: int) -> int:
    """The largest number of requests in flight: when request n is drawn, all up to n - in_flight have been returned."""
    return max(1, processes * PREFETCH)


def fill_in_processes(
    decoder: ViewDecoder,
    requests: Iterable[Request],
    *,
    processes: int,
    held: int,
    at_row: SharedMemory,
    times: LoadTimes | None,
    option: str,
    context: str | None = None,
) -> Generator[tuple[Request, UInt8[Tensor, "bytes"], list[Any]], None, None]:
    """Run `decoder.fill` in processes: yield each request, the memory filled for it, and what `fill` returned.

    Args:
        decoder: is sent to the processes.
        requests: what to fill. Shared memory is sized by the first one; larger ones take longer.
        processes: at least one.
        held: results that the caller holds at the same time.
        at_row: see `shared_rows`.
        times: of so many processes, to be counted, if somebody wants to know.
        option: the option that sets the number of processes, for messages.
        context: how processes are started; None for PyTorch's default.

    Raises:
        ConfigError: the machine has too little for so many processes; says what to do.
        PLDError: the error that a worker raised.
    """
    first = list(itertools.islice(requests := iter(requests), 1))
    block_bytes = max(map(decoder.block_bytes, first), default=0)
    loaders = Loaders(processes=processes, held=held, block_bytes=block_bytes, option=option)
    prefetch = _make_room(loaders)
    try:
        blocks = _Blocks(loaders.num_blocks(prefetch), block_bytes)
    except OSError as error:  # others took it meanwhile
        wanted = loaders.num_blocks(prefetch) * block_bytes / 1e6
        raise ConfigError(
            f"{option} {processes}: {wanted:,.0f} MB of memory for their batches cannot be had: {error.strerror}; use "
            f"fewer {option}, or give the container or job more memory"
        ) from error
    free = deque(range(blocks.count))
    orders: deque[tuple[Request, int | None]] = deque()

    def order(request: Request) -> tuple[Request, int | None]:
        fits = free and decoder.num_bytes(request) <= block_bytes
        orders.append((request, free.popleft() if fits else None))
        return orders[-1]

    ending = SharedMemory(1)
    loader = DataLoader(
        _Worker(decoder, blocks, at_row, times),
        sampler=map(order, itertools.chain(first, requests)),
        batch_size=None,
        collate_fn=_identity,
        num_workers=processes,
        prefetch_factor=prefetch,
        multiprocessing_context=context,
        worker_init_fn=functools.partial(_begin, ending, current_setup()),
    )
    at_exit = atexit.register(functools.partial(ending.bytes.fill_, 1))
    with held_back():
        results = iter(loader)
    how = context or multiprocessing.get_start_method()
    _LOG.debug("loader processes started (%s): %d, batches ahead of each: %d", how, processes, prefetch)
    try:
        for filled in results:
            request, block = orders.popleft()
            if isinstance(filled, PLDError):
                raise filled
            own, rows = filled
            if block is None:
                memory = torch.from_numpy(own)
            else:  # which is free again when no tensor refers to it any more
                memory = lend(blocks[block].numpy(), functools.partial(free.append, block))
            yield request, memory, rows
    finally:
        ending.bytes.fill_(1)  # a worker that waits for a lock of one that was killed ends by SIGTERM alone
        del results  # ends the workers
        atexit.unregister(at_exit)


def _make_room(loaders: Loaders) -> int:
    """Allow as many open files as the loaders want; returns how many requests each is given in advance.

    Raises:
        ConfigError: the machine has too little for them.
    """
    machine = Machine.now()
    check_loaders([loaders], machine)
    allow_open_files(loaders.open_files)
    prefetch = fitting_prefetch(loaders, machine)
    if prefetch < PREFETCH:
        _LOG.warning("memory is short: each loader process loads %d batch ahead, not %d", prefetch, PREFETCH)
    return prefetch


class _Blocks:
    """Blocks of shared memory of one size."""

    def __init__(self, count: int, block_bytes: int) -> None:
        self.count, self._block_bytes = count, block_bytes
        self._memory = SharedMemory(count * block_bytes)

    def __getitem__(self, block: int) -> UInt8[Tensor, "bytes"]:
        return self._memory.bytes.view(self.count, self._block_bytes)[block]


class _Worker(Dataset[tuple[UInt8[ndarray, "bytes"] | None, list[Any]] | PLDError], Generic[Request]):
    """Fills the block that comes with a request; allocates and returns memory only if there is none.

    That memory is an array, which a pipe copies: a tensor would go through /dev/shm, and be lost where that is full.
    A PLDError is returned, not raised: DataLoader would wrap it in its worker's traceback.
    """

    def __init__(self, decoder: ViewDecoder, blocks: _Blocks, at_row: SharedMemory, times: LoadTimes | None) -> None:
        self._decoder = decoder
        self._blocks = blocks
        self._at_row = at_row
        self._times = times

    def __getitem__(
        self, order: tuple[Request, int | None]
    ) -> tuple[UInt8[ndarray, "bytes"] | None, list[Any]] | PLDError:
        request, block = order
        worker = get_worker_info()
        assert worker is not None
        on_row = functools.partial(self._at_row.bytes.view(torch.int64).numpy().__setitem__, worker.id)
        watch = self._times.of(worker.id) if self._times else None
        try:
            if block is not None:
                return None, self._decoder.fill(request, self._blocks[block], on_row, watch=watch)
            own = torch.empty(self._decoder.num_bytes(request), dtype=torch.uint8)
            return own.numpy(), self._decoder.fill(request, own, on_row, watch=watch)
        except PLDError as error:
            return error


def _begin(ending: SharedMemory, logs: Setup | None, worker: int) -> None:
    """Make a worker log as the main process does, and leave to it what schedulers and terminals send to whole jobs.

    At exit the main process sends SIGTERM to workers of loaders that are still open, and waits for them.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0) if ending.bytes.item() else None)
    leave_to_parent()
    if logs and not current_setup():  # it was spawned; forked ones have it already
        set_up_logs(logs)


def _identity(filled: object) -> object:
    return filled


def shared_rows(processes: int) -> SharedMemory:
    """Memory to which each process writes the row that it is reading, as int64; -1 before the first."""
    rows = SharedMemory(8 * processes)
    rows.bytes.view(torch.int64).fill_(-1)
    return rows


@contextlib.contextmanager
def explain_deaths(dataset: ImageDataset, at_row: SharedMemory, option: str) -> Iterator[None]:
    """Turn the death of a worker, which PyTorch may raise anywhere in the main process, into an error for the user.

    Args:
        dataset: the one that the workers read.
        at_row: see `shared_rows`.
        option: the option that sets the number of processes.

    Raises:
        DataError: a worker died; names the samples that the workers were reading.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        # If the dead worker still held a batch's memory, the connection to it is refused or ends.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        keys = ", ".join(dataset.key(row) for row in at_row.bytes.view(torch.int64).tolist() if row >= 0)
        raise DataError(
            f"{dataset.location}: a loader process died ({' '.join(str(error).split())}) while loaders were reading "
            f"the samples {keys}. If it ran out of memory, use fewer {option}; else check these images"
        ) from error
