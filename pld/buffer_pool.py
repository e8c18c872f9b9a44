"""A buffer pool: on many machines, mapping fresh pages costs more than the work done in them."""

from __future__ import annotations

import ctypes
import functools
import math
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor

# From malloc.h; these numbers are part of its ABI.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Make glibc's malloc keep the memory that this process frees, for models on the CPU; does nothing elsewhere.

    By default malloc returns large blocks to the system at once, so a model's activations are fresh pages every batch.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option and not torch.cuda.is_available():
        set_option(_TRIM_THRESHOLD, -1)
        set_option(_MMAP_MAX, 0)


def lend(block: UInt8[ndarray, "n"], give_back: Callable[[], object]) -> UInt8[Tensor, "n"]:
    """A block of memory as a tensor; `give_back` is called when the tensor and all its views are gone."""
    # PyTorch references the array that a storage was made from, so each loan gets an array of its own.
    lease = block[:]
    weakref.finalize(lease, give_back).atexit = False
    return torch.from_numpy(lease)


class BufferPool:
    """Hands out tensors on blocks of memory; a block is reused once the last tensor on it is gone.

    All blocks are as large as the largest tensor requested so far, and there are as many as were in use at once.
    Thread-safe.
    """

    def __init__(self) -> None:
        self._block_bytes = 0
        self._free: deque[ndarray] = deque()
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A contiguous, uninitialised tensor on the CPU."""
        num_bytes = math.prod(shape) * dtype.itemsize
        with self._lock:
            if num_bytes > self._block_bytes:
                self._block_bytes, self._free = num_bytes, deque()
            free = self._free
            block = free.pop() if free else np.empty(self._block_bytes, np.uint8)
        return lend(block[:num_bytes], functools.partial(free.append, block)).view(dtype).view(shape)
