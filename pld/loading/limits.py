"""What worker processes want of a machine, compared with what it has before they are started."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import mmap
import resource
from collections.abc import Sequence

from pld.errors import ConfigError
from pld.loading.machine import Machine

_LOG = logging.getLogger(__name__)

# Requests that each worker is given in advance; one where memory is short.
PREFETCH = 2
# Measured: 28 MB of a worker's own while it decodes photos of 3 megapixels.
_WORKER_BYTES = 64_000_000
# A queue's locks are semaphores, each a page of /dev/shm; a loader has a queue more than workers, an event and flags.
_LOCKS_OF_A_QUEUE, _OTHER_LOCKS = 3, 16
# Measured: two pipes for each worker, five for all.
_FILES_OF_A_WORKER, _FILES_OF_A_LOADER = 4, 8
# For checkpoints, stores and logs, and for images, of which a source keeps up to 128 files open.
_OTHER_FILES, _USUAL_FILES = 24, 192


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaders:
    """Worker processes to be.

    Attributes:
        processes: how many.
        held: results that the caller holds at the same time.
        block_bytes: of a request's views.
        option: the option that sets the number of processes, for messages.
    """

    processes: int
    held: int
    block_bytes: int
    option: str

    def num_blocks(self, prefetch: int) -> int:
        """Requests that have memory at once; while the caller asks for its next results it still holds the last."""
        return self.processes * prefetch + 2 * self.held

    def memory_bytes(self, prefetch: int) -> int:
        """Of the blocks and the processes."""
        return self.num_blocks(prefetch) * self.block_bytes + self.processes * _WORKER_BYTES

    @property
    def shm_bytes(self) -> int:
        """Of /dev/shm; the blocks are elsewhere."""
        return ((self.processes + 1) * _LOCKS_OF_A_QUEUE + _OTHER_LOCKS) * mmap.PAGESIZE

    @property
    def open_files(self) -> int:
        """Descriptors in the main process, which its workers inherit."""
        return self.processes * _FILES_OF_A_WORKER + _FILES_OF_A_LOADER


def check_loaders(loaders: Sequence[Loaders], machine: Machine, *, opened_before: int = 0) -> None:
    """Raise ConfigError, saying what to do, where loaders that are open at the same time do not fit a machine.

    Args:
        loaders: to be, in the order in which they start.
        machine: what it has now.
        opened_before: other files that will have been opened by the time that they start.
    """
    machine = dataclasses.replace(machine, open_files=machine.open_files + opened_before)
    for each in loaders:
        if not each.processes:
            continue
        prefetch = fitting_prefetch(each, machine)
        _check_shm(each, machine)
        _check_open_files(each, machine)
        memory, shm = machine.memory_bytes, machine.shm_bytes
        machine = dataclasses.replace(
            machine,
            memory_bytes=None if memory is None else memory - each.memory_bytes(prefetch),
            shm_bytes=None if shm is None else shm - each.shm_bytes,
            open_files=machine.open_files + each.open_files,
        )


def fitting_prefetch(loaders: Loaders, machine: Machine) -> int:
    """How many requests each worker may be given in advance; raises ConfigError where memory is too little for one."""
    if (free := machine.memory_bytes) is None:
        return PREFETCH
    for prefetch in range(PREFETCH, 0, -1):
        if loaders.memory_bytes(prefetch) <= free:
            return prefetch
    fewer = range(loaders.processes - 1, 0, -1)
    fitting = (n for n in fewer if dataclasses.replace(loaders, processes=n).memory_bytes(1) <= free)
    advice = f"use {loaders.option} {n}" if (n := next(fitting, 0)) else "use a smaller --batch_size"
    blocks = loaders.num_blocks(1)
    raise ConfigError(
        f"{loaders.option} {loaders.processes}: loader processes want {_mb(loaders.memory_bytes(1))} of memory, for "
        f"{blocks} batches of {_mb(loaders.block_bytes)} and {_mb(_WORKER_BYTES)} each; {machine.memory_of} has "
        f"{_mb(free)} free: {advice}, or give it more (docker run --memory, sbatch --mem)"
    )


def _check_shm(loaders: Loaders, machine: Machine) -> None:
    if machine.shm_bytes is not None and loaders.shm_bytes > machine.shm_bytes:
        raise ConfigError(
            f"/dev/shm: {machine.shm_bytes / 1e3:,.0f} kB are free, and the locks of {loaders.processes} loader "
            f"processes want {loaders.shm_bytes / 1e3:,.0f}: remove what other programs left there, give the container "
            f"more (docker run --shm-size=1g, or --ipc=host), or use fewer {loaders.option}"
        )


def _check_open_files(loaders: Loaders, machine: Machine) -> None:
    wanted = machine.open_files + loaders.open_files + _OTHER_FILES
    if wanted > machine.hard_open_files:
        most = (machine.hard_open_files - machine.open_files - _FILES_OF_A_LOADER - _OTHER_FILES) // _FILES_OF_A_WORKER
        fewer = f", or use {loaders.option} {most}" if most > 0 else ""
        raise ConfigError(
            f"ulimit -n {machine.hard_open_files}: {loaders.processes} loader processes and what they read want "
            f"{wanted} open files; have the limit raised (ulimit -n {wanted + _USUAL_FILES}, docker run --ulimit "
            f"nofile={wanted + _USUAL_FILES}){fewer}"
        )


def allow_open_files(more: int) -> None:
    """Raise the soft limit of descriptors, as far as the hard one allows, so that there is room for some more.

    Args:
        more: than are open now, beside the usual ones.
    """
    machine = Machine.now()
    wanted = min(machine.open_files + more + _USUAL_FILES, machine.hard_open_files)
    if wanted <= machine.most_open_files:
        return
    with contextlib.suppress(OSError, ValueError):  # macOS has a smaller limit than it tells
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        _LOG.warning("open files: %d were allowed (ulimit -n), raised to %d", machine.most_open_files, wanted)


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f} MB"
