"""Bytes and times as people read them, and the bytes that a store will take."""

from __future__ import annotations

import numpy as np

# Bytes of a sample's view in a store by k, EfficientNet-Lite2 on ImageNet photos: docs/decisions/0003.
_MEASURED_K, _MEASURED_BYTES = (10, 50, 1000), (27.7, 93.5, 1390.0)


def bytes_per_view(k: int) -> float:
    """Bytes that a store takes for a view of a sample, between the measured k linearly, above them in proportion."""
    return float(np.interp(k, _MEASURED_K, _MEASURED_BYTES)) * max(1.0, k / _MEASURED_K[-1])


def bytes_text(num_bytes: int | float) -> str:
    """Bytes as people read them, in powers of 1000."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} kB"
