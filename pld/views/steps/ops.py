"""Apply operations to a view's pixels, compiled ones where they are there; the pixels are the same either way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from pld.plugins import Registry
from pld.views.steps.op import Op
from pld.views.steps.pixels import compiled_ops, pillow_ops
from pld.views.steps.pixels.erase import erase, erase_with_noise
from pld.views.steps.pixels.grey_levels import invert, posterize, solarize, solarize_add

Pixels = UInt8[ndarray, "h w 3"]


def operations(library: ModuleType) -> Mapping[str, Callable[..., Pixels]]:
    """What each operation's name does to pixels, given its arguments; `library` is compiled_ops or pillow_ops."""
    affine: Callable[..., Pixels] = library.affine

    def shear_x(pixels: Pixels, factor: float) -> Pixels:
        return affine(pixels, (1.0, factor, 0.0, 0.0, 1.0, 0.0))

    def shear_y(pixels: Pixels, factor: float) -> Pixels:
        return affine(pixels, (1.0, 0.0, 0.0, factor, 1.0, 0.0))

    def translate_x(pixels: Pixels, fraction: float) -> Pixels:
        return affine(pixels, (1.0, 0.0, fraction * pixels.shape[1], 0.0, 1.0, 0.0))

    def translate_y(pixels: Pixels, fraction: float) -> Pixels:
        return affine(pixels, (1.0, 0.0, 0.0, 0.0, 1.0, fraction * pixels.shape[0]))

    of_library = ("auto_contrast", "equalize", "rotate", "color", "contrast", "brightness", "sharpness")
    here = (
        invert,
        posterize,
        solarize,
        solarize_add,
        shear_x,
        shear_y,
        translate_x,
        translate_y,
        erase,
        erase_with_noise,
    )
    return {
        **{name: getattr(library, name) for name in of_library},
        **{function.__name__: function for function in (*here, pillow_ops.hue, pillow_ops.blur)},
    }


OPERATIONS: Registry[Callable[..., Pixels]] = Registry("operation on pixels")
OPERATIONS.update(operations(compiled_ops if compiled_ops.HAS_PIXELS else pillow_ops))


def apply_ops(pixels: Pixels, ops: Sequence[Op]) -> Pixels:
    """The pixels after all operations, in their order; `pixels` is not changed.

    Bit for bit what Pillow gives, and so timm and torchvision on Pillow's images, with and without the compiled
    operations.
    """
    pixels = np.ascontiguousarray(pixels)
    for op in ops:
        pixels = OPERATIONS[op.name](pixels, *op.arguments)
    return pixels
