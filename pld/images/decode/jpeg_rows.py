"""The upper rows of an ordinary JPEG, the lower ones not even read: what simplejpeg can leave out of an image."""

from __future__ import annotations

import numpy as np
import simplejpeg
from jaxtyping import UInt8

# Segments before a sequential JPEG's frame header; a restart interval (0xDD) is none of them, see `_cut_below`.
_TABLES = frozenset((*range(0xE0, 0xF0), 0xDB, 0xC4, 0xFE))
_SEQUENTIAL = (0xC0, 0xC1)

# Chroma is interpolated between rows, so the last wanted row needs the next one too.
_CONTEXT_ROWS = 4

# Fewer rows than this are not worth the attempt.
_LEAST_SAVED_ROWS = 16


def decode_upper_rows(data: bytes, size: tuple[int, int], num_rows: int) -> UInt8[np.ndarray, "h W 3"] | None:
    """A few more rows than wanted, the same pixels; None where that saves nothing or something is amiss.

    The decoder is told of a lower image. What is left of the data it reports as bytes too many, behind the last row
    and in front of the image's end: as it keeps its first warning, no other came before.

    Args:
        data: the encoded image.
        size: its (height, width), as `jpeg_size` said.
        num_rows: how many are wanted, from the top.
    """
    if size[0] - num_rows < _LEAST_SAVED_ROWS + _CONTEXT_ROWS:
        return None
    cut = _cut_below(data, num_rows + _CONTEXT_ROWS)
    if cut is None:
        return None
    pixels = np.empty((num_rows + _CONTEXT_ROWS, size[1], 3), np.uint8)
    try:
        simplejpeg.decode_jpeg(cut, buffer=pixels)
    except ValueError as warning:
        return pixels if str(warning).endswith("extraneous bytes before marker 0xd9") else None
    return pixels


def _cut_below(data: bytes, num_rows: int) -> bytearray | None:
    """The JPEG with a lower height in its frame header; None for progressive ones and those with restart markers."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _SEQUENTIAL:
            cut = bytearray(data)
            cut[at + 5 : at + 7] = num_rows.to_bytes(2, "big")
            return cut
        if marker not in _TABLES:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
