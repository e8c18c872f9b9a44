"""The slow operations of pillow_ops.py in C (native/), bit for bit the same and several times as fast.

Available if the extension was built and the processor has AVX2. They release the GIL.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from pld.views.colours import MEAN_COLOUR
from pld.views.steps.pixels import pillow_ops

try:
    from pld.views.steps.pixels import _pixels
except ImportError:
    HAS_PIXELS = False
else:
    HAS_PIXELS = True

Pixels = UInt8[ndarray, "h w 3"]


def auto_contrast(pixels: Pixels) -> Pixels:
    """See pillow_ops."""
    levels = np.arange(256)
    tables = []
    for counts in _count(pixels):
        (found,) = counts.nonzero()
        darkest, lightest = int(found[0]), int(found[-1])
        if darkest < lightest:
            scale = 255.0 / (lightest - darkest)
            tables.append((levels * scale + -darkest * scale).clip(0, 255))
        else:
            tables.append(levels)
    return _replace(pixels, tables)


def equalize(pixels: Pixels) -> Pixels:
    """See pillow_ops."""
    levels = np.arange(256)
    tables = []
    for counts in _count(pixels):
        (found,) = counts.nonzero()
        step = int(counts.sum() - counts[found[-1]]) // 255
        below = np.cumsum(counts) - counts
        tables.append(((step // 2 + below) // step).clip(0, 255) if step else levels)
    return _replace(pixels, tables)


def brightness(pixels: Pixels, factor: float) -> Pixels:
    """See pillow_ops."""
    return _blend_with_level(pixels, 0, factor)


def contrast(pixels: Pixels, factor: float) -> Pixels:
    """See pillow_ops."""
    mean = _pixels.grey_sum(pixels.data) / (pixels.size // 3)
    return _blend_with_level(pixels, int(mean + 0.5), factor)


def color(pixels: Pixels, factor: float) -> Pixels:
    """See pillow_ops."""
    out = np.empty_like(pixels)
    _pixels.blend_grey(pixels.shape[:2], pixels.data, out.data, factor)
    return out


def sharpness(pixels: Pixels, factor: float) -> Pixels:
    """See pillow_ops."""
    out = np.empty_like(pixels)
    _pixels.blend_smooth(pixels.shape[:2], pixels.data, out.data, factor)
    return out


def rotate(pixels: Pixels, degrees: float) -> Pixels:
    """See pillow_ops."""
    if degrees % 90 == 0:  # Pillow then moves whole pixels
        return pillow_ops.rotate(pixels, degrees)
    height, width = pixels.shape[:2]
    angle = -math.radians(degrees % 360.0)
    cos, sin, minus_sin = (round(number, 15) for number in (math.cos(angle), math.sin(angle), -math.sin(angle)))
    x, y = width / 2, height / 2
    return affine(
        pixels, (cos, sin, cos * -x + sin * -y + 0.0 + x, minus_sin, cos, minus_sin * -x + cos * -y + 0.0 + y)
    )


def affine(pixels: Pixels, matrix: tuple[float, float, float, float, float, float]) -> Pixels:
    """See pillow_ops."""
    out = np.empty_like(pixels)
    _pixels.affine(pixels.shape[:2], pixels.data, out.data, matrix, MEAN_COLOUR)
    return out


def _blend_with_level(pixels: Pixels, level: int, factor: float) -> Pixels:
    out = np.empty_like(pixels)
    _pixels.blend_level(pixels.shape[:2], pixels.data, out.data, level, factor)
    return out


def _count(pixels: Pixels) -> ndarray:
    counts = np.empty((3, 256), np.uint32)
    _pixels.count(pixels.shape[:2], pixels.data, counts.data)
    return counts


def _replace(pixels: Pixels, tables: list[ndarray]) -> Pixels:
    out = np.empty_like(pixels)
    _pixels.replace(pixels.shape[:2], pixels.data, out.data, np.array(tables).astype(np.uint8).data)
    return out
