"""A view of an image: a crop box and a flip, and how it is cut out and resized."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]


@dataclasses.dataclass(frozen=True)
class View:
    """A crop box in pixels of the original image, and whether the crop is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def apply_view(
    image: UInt8[Tensor, "3 H W"],
    view: View,
    output_size: int | tuple[int, int],
    interpolation: Interpolation = "bicubic",
    *,
    out: UInt8[Tensor, "3 h w"] | None = None,
) -> UInt8[Tensor, "3 h w"]:
    """Cut the view out of its image and resize it, antialiased, to `output_size` (side, or (height, width)).

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
    return pixels if out is None else out.copy_(pixels)
