"""Bytes and times as people read them; the bytes that a store will take, and that a command has taken."""

from __future__ import annotations

import resource
import sys

import numpy as np
import torch

# Bytes of a sample's view in a store by k, EfficientNet-Lite2 on ImageNet photos: docs/decisions/0003.
_MEASURED_K, _MEASURED_BYTES = (10, 50, 1000), (27.7, 93.5, 1390.0)
# What classes drawn from the tail add to k = 10, and each further one, EfficientNet-Lite2 at 224 px on ImageNet photos:
# docs/decisions/0027.
_MEASURED_DRAWN, _DRAWN_BYTES, _EACH_FURTHER = (0, 4, 8, 16), (0.0, 11.1, 17.7, 30.8), 1.6


def bytes_per_view(k: int, tail_samples: int = 0) -> float:
    """Bytes that a store takes for a view of a sample, between the measured k linearly, above them in proportion."""
    of_top = float(np.interp(k, _MEASURED_K, _MEASURED_BYTES)) * max(1.0, k / _MEASURED_K[-1])
    further = max(0, tail_samples - _MEASURED_DRAWN[-1]) * _EACH_FURTHER
    return of_top + float(np.interp(tail_samples, _MEASURED_DRAWN, _DRAWN_BYTES)) + further


def bytes_text(num_bytes: int | float) -> str:
    """Bytes as people read them, in powers of 1000."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} kB"


def duration_text(seconds: float) -> str:
    """A time as people read it: in seconds, minutes, hours or days."""
    for unit, size in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"


def peak_bytes(who: int = resource.RUSAGE_SELF) -> int:
    """Of this process, or with RUSAGE_CHILDREN of the largest process that it started and that has ended."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit


def peak_gpu_bytes(device: torch.device) -> int | None:
    """What PyTorch has reserved on a GPU at most; None for another device."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None
