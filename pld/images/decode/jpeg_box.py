"""Decode one box of an ordinary JPEG, without transforming the blocks around it or reading the rows below it.

The pixels are bit for bit those that libjpeg-turbo decodes of the whole image. The decoder is written in C (native/)
and available if it could be compiled and the processor has AVX2. It takes what nearly all photos are: sequential JPEGs
of one scan, without restart markers, grey or YCbCr with chroma at 4:4:4, 4:2:2 or 4:2:0.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

try:
    from pld.images.decode import _box
except ImportError:
    HAS_BOXES = False
else:
    HAS_BOXES = True

Box = tuple[int, int, int, int]
"""(top, left, height, width), pixels."""


def decode_box(data: bytes, size: tuple[int, int], box: Box) -> UInt8[np.ndarray, "h w 3"] | None:
    """The pixels of a box; None if another decoder has to be asked.

    That is the case without the compiled decoder, and for an image that is of another kind, truncated, or damaged
    above the box's last row. Damage below goes unnoticed unless the box is the whole image.

    Args:
        data: the encoded image.
        size: its (height, width), as returned by `jpeg_size`.
        box: lies inside the image.
    """
    if not HAS_BOXES:
        return None
    pixels = np.empty((box[2], box[3], 3), np.uint8)
    return pixels if _box.decode(data, size, box, pixels.data) else None
