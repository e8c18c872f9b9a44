"""Apply operations to a view's pixels, with the compiled part where it is there; the pixels are Pillow's either way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from pld.views.steps import pillow_ops
from pld.views.steps.erase import erase, erase_with_noise
from pld.views.steps.grey_levels import invert, posterize, solarize, solarize_add
from pld.views.steps.op import Op

Pixels = UInt8[ndarray, "h w 3"]


def shear_x(pixels: Pixels, factor: float) -> Pixels:
    """Move each row to the left by `factor` times its y."""
    return pillow_ops.affine(pixels, (1.0, factor, 0.0, 0.0, 1.0, 0.0))


def shear_y(pixels: Pixels, factor: float) -> Pixels:
    """Move each column up by `factor` times its x."""
    return pillow_ops.affine(pixels, (1.0, 0.0, 0.0, factor, 1.0, 0.0))


def translate_x(pixels: Pixels, fraction: float) -> Pixels:
    """Move to the left by a fraction of the width."""
    return pillow_ops.affine(pixels, (1.0, 0.0, fraction * pixels.shape[1], 0.0, 1.0, 0.0))


def translate_y(pixels: Pixels, fraction: float) -> Pixels:
    """Move up by a fraction of the height."""
    return pillow_ops.affine(pixels, (1.0, 0.0, 0.0, 0.0, 1.0, fraction * pixels.shape[0]))


OPERATIONS: dict[str, Callable[..., Pixels]] = {
    "auto_contrast": pillow_ops.auto_contrast,
    "equalize": pillow_ops.equalize,
    "invert": invert,
    "rotate": pillow_ops.rotate,
    "posterize": posterize,
    "solarize": solarize,
    "solarize_add": solarize_add,
    "color": pillow_ops.color,
    "contrast": pillow_ops.contrast,
    "brightness": pillow_ops.brightness,
    "sharpness": pillow_ops.sharpness,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
    "hue": pillow_ops.hue,
    "blur": pillow_ops.blur,
    "erase": erase,
    "erase_with_noise": erase_with_noise,
}
"""What each operation's name does to pixels, given its arguments."""


def apply_ops(pixels: Pixels, ops: Sequence[Op]) -> Pixels:
    """The pixels after all operations, in their order; `pixels` is not changed.

    Bit for bit what Pillow gives, and so timm and torchvision on Pillow's images: the same on every machine, with and
    without the compiled part.
    """
    pixels = np.ascontiguousarray(pixels)
    for op in ops:
        pixels = OPERATIONS[op.name](pixels, *op.arguments)
    return pixels
