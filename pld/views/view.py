"""A view of an image: a crop box, a flip and what is done to the pixels, and how it is made of its image."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from pld.views.steps.op import Op
from pld.views.steps.ops import apply_ops

Interpolation = Literal["bilinear", "bicubic"]


@dataclasses.dataclass(frozen=True)
class View:
    """What is drawn of a view: everything but what it is mixed with.

    Attributes:
        top, left, height, width: the crop box in pixels of the original image.
        flip: whether the crop is mirrored left to right.
        ops: what is done to its pixels then, in this order.
    """

    top: int
    left: int
    height: int
    width: int
    flip: bool
    ops: tuple[Op, ...] = ()


def apply_view(
    image: UInt8[Tensor, "3 H W"],
    view: View,
    output_size: int | tuple[int, int],
    interpolation: Interpolation = "bicubic",
    *,
    out: UInt8[Tensor, "3 h w"] | None = None,
) -> UInt8[Tensor, "3 h w"]:
    """Cut the view out of its image and resize it, antialiased, to `output_size` (side, or (height, width)).

    Its operations follow at that size.

    Fastest when `image` is a permuted [H, W, 3] array, as decoders give it. The result is written to `out` if given.

    Example:
        >>> from pld.views import RandomResizedCrop, draw_view
        >>> image = torch.zeros(3, 375, 500, dtype=torch.uint8)
        >>> view = draw_view("n01440764_10026", 3, (375, 500), RandomResizedCrop(seed=0))
        >>> apply_view(image, view, 224).shape
        torch.Size([3, 224, 224])
    """
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    box = image.narrow(1, view.top, view.height).narrow(2, view.left, view.width)
    # interpolate would treat a box that is a slice of a channels-last image as channels first, and transpose it twice;
    # the same goes for one whose batch dimension alone does not have the strides of channels last.
    box = box.permute(1, 2, 0).contiguous().unsqueeze(0).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(box, size=size, mode=interpolation, antialias=True).squeeze(0)
    pixels = resized.flip(2) if view.flip else resized
    if view.ops:
        pixels = torch.from_numpy(apply_ops(pixels.permute(1, 2, 0).numpy(), view.ops)).permute(2, 0, 1)
    return pixels if out is None else out.copy_(pixels)
