"""Decode only the upper rows of an ordinary JPEG: what simplejpeg can skip where there is no compiled box decoder."""

from __future__ import annotations

import numpy as np
import simplejpeg
from jaxtyping import UInt8

from pld.images.decode.jpeg_markers import SEQUENTIAL, TABLES, segments

# Chroma is interpolated between rows, so the last wanted row needs the next one too.
_CONTEXT_ROWS = 4

# Saving fewer rows than this is not worth the attempt.
_LEAST_SAVED_ROWS = 16


def decode_upper_rows(data: bytes, size: tuple[int, int], num_rows: int) -> UInt8[np.ndarray, "h W 3"] | None:
    """The wanted rows and a few more, bit for bit those of the whole image; None if that saves nothing or may be wrong.

    The frame header is changed to declare a lower image. The decoder then warns of the remaining data as extraneous
    bytes before the end marker. It keeps only its first warning, so this one means that there was no other.

    Args:
        data: the encoded image.
        size: its (height, width), as returned by `jpeg_size`.
        num_rows: how many rows are wanted, from the top.
    """
    if size[0] - num_rows < _LEAST_SAVED_ROWS + _CONTEXT_ROWS:
        return None
    lower = _with_height(data, num_rows + _CONTEXT_ROWS)
    if lower is None:
        return None
    pixels = np.empty((num_rows + _CONTEXT_ROWS, size[1], 3), np.uint8)
    try:
        simplejpeg.decode_jpeg(lower, buffer=pixels)
    except ValueError as warning:
        return pixels if str(warning).endswith("extraneous bytes before marker 0xd9") else None
    return pixels


def _with_height(data: bytes, num_rows: int) -> bytearray | None:
    """The JPEG with another height in its frame header; None for progressive ones and those with restart markers."""
    for marker, start, _ in segments(data):
        if marker in SEQUENTIAL:
            changed = bytearray(data)
            changed[start + 5 : start + 7] = num_rows.to_bytes(2, "big")
            return changed
        if marker not in TABLES:
            return None
    return None
