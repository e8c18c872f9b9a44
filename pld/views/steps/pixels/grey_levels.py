"""Operations that replace each grey level by another, whatever the image: a few of NumPy's vector instructions each."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

Pixels = UInt8[ndarray, "h w 3"]


def invert(pixels: Pixels) -> Pixels:
    """255 less each level."""
    inverted: Pixels = np.bitwise_not(pixels)
    return inverted


def posterize(pixels: Pixels, bits: float) -> Pixels:
    """Keep the highest `bits` bits. At 0 the image is black, as with Pillow before it refused 0."""
    kept: Pixels = pixels & np.uint8(256 - 2 ** (8 - int(bits)) if bits else 0)
    return kept


def solarize(pixels: Pixels, threshold: float) -> Pixels:
    """Invert the levels from `threshold` on, 0 to 256."""
    if threshold > 255:
        return pixels
    return pixels ^ -(pixels >= np.uint8(threshold)).view(np.uint8)  # all bits of what is inverted


def solarize_add(pixels: Pixels, add: float) -> Pixels:
    """Add 0 to 127 to the levels below 128."""
    brighter: Pixels = pixels + (pixels < 128).view(np.uint8) * np.uint8(add)
    return brighter
