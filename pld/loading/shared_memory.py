"""Memory that a process shares with its workers, outside /dev/shm, which has 64 MB in a container of docker's."""

from __future__ import annotations

import mmap
import os
import weakref
from multiprocessing.reduction import DupFd
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor


class SharedMemory:
    """Zeros that workers see and write too, however they are started; freed with the last process that has them.

    They lie in an anonymous file of Linux, which counts as memory and belongs to no mounted file system. Other systems
    have no small /dev/shm to avoid.

    Attributes:
        bytes: the memory.
    """

    bytes: UInt8[Tensor, "n"]

    def __init__(self, num_bytes: int) -> None:
        """Take the memory at once; raises OSError if the system does not give it."""
        self._descriptor: int | None = None
        if not hasattr(os, "memfd_create"):
            self.bytes = torch.zeros(num_bytes, dtype=torch.uint8).share_memory_()
            return
        self._map(os.memfd_create("pld-views"), num_bytes)

    def __getstate__(self) -> tuple[Any, int]:
        shared = self.bytes if self._descriptor is None else DupFd(self._descriptor)
        return shared, self.bytes.numel()

    def __setstate__(self, state: tuple[Any, int]) -> None:
        shared, num_bytes = state
        self._descriptor = None
        if isinstance(shared, Tensor):
            self.bytes = shared
        else:
            self._map(shared.detach(), num_bytes)

    def _map(self, descriptor: int, num_bytes: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        mapped_bytes = max(num_bytes, 1)  # nothing cannot be mapped
        os.posix_fallocate(descriptor, 0, mapped_bytes)
        self.bytes = torch.frombuffer(mmap.mmap(descriptor, mapped_bytes), dtype=torch.uint8)[:num_bytes]
