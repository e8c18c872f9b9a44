"""Erase a box of pixels."""

from __future__ import annotations

import functools
from statistics import NormalDist

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from pld.views.colours import IMAGENET_MEAN, IMAGENET_STD, MEAN_COLOUR

Pixels = UInt8[ndarray, "h w 3"]
_LEVELS = 2**16  # of the uniform numbers that noise is looked up by


def erase(pixels: Pixels, height: float, width: float, down: float, right: float) -> Pixels:
    """Fill a box with ImageNet's mean colour.

    Args:
        pixels: not changed.
        height, width: shares of the image's sides, rounded to whole pixels.
        down, right: the box's place: shares of the room that it leaves, 0 for the top or the left, below 1.
    """
    erased = pixels.copy()
    _box(erased, height, width, down, right)[:] = MEAN_COLOUR
    return erased


def erase_with_noise(pixels: Pixels, height: float, width: float, down: float, right: float, seed: float) -> Pixels:
    """Fill a box with normal noise of ImageNet's mean and standard deviation; `seed` is a whole number below 2^53.

    The noise depends on `seed` and on the box's size in pixels alone.
    """
    erased = pixels.copy()
    box = _box(erased, height, width, down, right)
    raw = np.random.Philox(key=int(seed)).random_raw(-(-box.size // 4)).astype("<u8", copy=False)
    uniform = raw.view("<u2")[: box.size].reshape(box.shape)
    for channel, table in enumerate(_noise_tables()):
        box[..., channel] = table[uniform[..., channel]]
    return erased


def _box(pixels: Pixels, height: float, width: float, down: float, right: float) -> UInt8[ndarray, "rows columns 3"]:
    rows, columns = round(height * pixels.shape[0]), round(width * pixels.shape[1])
    top = int(down * (pixels.shape[0] - rows + 1))
    left = int(right * (pixels.shape[1] - columns + 1))
    return pixels[top : top + rows, left : left + columns]


@functools.cache
def _noise_tables() -> UInt8[ndarray, "3 65536"]:
    """The grey level of each of 65,536 equally likely normal numbers, for each channel."""
    normal = NormalDist()
    numbers = np.array([normal.inv_cdf((i + 0.5) / _LEVELS) for i in range(_LEVELS)])
    levels = 255 * (np.array(IMAGENET_MEAN)[:, None] + np.array(IMAGENET_STD)[:, None] * numbers)
    tables: UInt8[ndarray, "3 65536"] = np.rint(levels).clip(0, 255).astype(np.uint8)
    return tables
