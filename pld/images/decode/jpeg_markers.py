"""A JPEG's segments, walked by their markers before anything is decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator

SEQUENTIAL = (0xC0, 0xC1)
START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
# Application data, tables and comments. Not a restart interval (0xDD), which puts markers into the scan.
TABLES = frozenset((*range(0xE0, 0xF0), 0xDB, 0xC4, 0xFE))
_BITS = b"\x08"  # per channel
_MARKER = re.compile(rb"\xff[^\x00]")


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of a JPEG's header segments; the last end may lie beyond the data.

    Fill bytes before a marker are segments of marker 0xFF and one byte.
    """
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        marker = data[start + 1]
        end = start + 1 if marker == 0xFF else start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        yield marker, start, end
        start = end


def has_one_whole_scan(data: bytes) -> bool:
    """Whether this is a sequential JPEG of one scan, with no marker before the end of the image.

    Such an image is not truncated, so decoders that silently fill in missing data can be given it.
    """
    is_sequential = False
    for marker, start, end in segments(data):
        if marker == START_OF_SCAN:
            found = _MARKER.search(data, end)
            return is_sequential and found is not None and data[found.start() + 1] == _END_OF_IMAGE
        if marker not in TABLES and marker not in SEQUENTIAL:
            return False
        is_sequential |= marker in SEQUENTIAL and data[start + 4 : start + 5] == _BITS
    return False
