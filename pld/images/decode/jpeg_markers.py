"""What a JPEG's markers say of it, before anything is decoded."""

from __future__ import annotations

import re

# What comes before a sequential JPEG's scan: its frame header and tables. A restart interval (0xDD) is none of them:
# with it, the scan has markers of its own.
_SEQUENTIAL = (0xC0, 0xC1)
_SEGMENTS = frozenset((*range(0xE0, 0xF0), 0xDB, 0xC4, 0xFE, *_SEQUENTIAL))
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_BITS = b"\x08"  # of a channel
_MARKER = re.compile(rb"\xff[^\x00]")


def has_one_whole_scan(data: bytes) -> bool:
    """Whether this is a sequential JPEG of one scan, in which no marker comes before the image's end.

    Decoders that fill up what is missing and say nothing can be given such an image: it is not cut short.
    """
    at, is_sequential = 2, False
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, after = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            found = _MARKER.search(data, after)
            return is_sequential and found is not None and data[found.start() + 1] == _END_OF_IMAGE
        if marker not in _SEGMENTS:
            return False
        is_sequential |= marker in _SEQUENTIAL and data[at + 4 : at + 5] == _BITS
        at = after
    return False
