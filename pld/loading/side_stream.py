"""A stream of a GPU beside the one that trains, for work that training must not wait for."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Run the context's GPU work on a stream of its own, not the one that trains, and wait for it at the end."""
    if device.type != "cuda":
        yield
        return
    if device.index is not None:
        torch.cuda.set_device(device)  # a new thread starts on the first GPU, and `stream` would restore that
    with torch.cuda.stream(_stream(device)):
        yield
    _stream(device).synchronize()


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    # One per device: the allocator keeps separate memory for each stream.
    return torch.cuda.Stream(device)
