"""One box of an ordinary JPEG: what lies beside it is not made into pixels, what lies below is not read.

The pixels are to the last bit those that libjpeg-turbo gives of the whole image. The work is done in C (native/), which
is there where it could be compiled and the processor has AVX2, and takes what nearly all photos are: sequential JPEGs
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
    """The pixels of a box; None where somebody else has to judge the image.

    That is where there is no compiled part, and any image of another kind, cut short, or damaged above the box's last
    row. Damage below passes unnoticed, unless the box is the whole image.

    Args:
        data: the encoded image.
        size: its (height, width), as `jpeg_size` said.
        box: inside of it.
    """
    if not HAS_BOXES:
        return None
    pixels = np.empty((box[2], box[3], 3), np.uint8)
    return pixels if _box.decode(data, size, box, pixels.data) else None
