"""Batched `apply_view` for a GPU: a resize is a product with one matrix of weights for each axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from pld.views import Interpolation, View

# Pixels in one batch, padded to its largest crop: 200 MB in float32.
_PADDED_PIXELS = 2**24

_CUBIC = -0.5  # Keys's a, which antialiased resizing uses


def apply_views(
    images: Sequence[UInt8[Tensor, "3 _ _"]],
    views: Sequence[View],
    size: tuple[int, int],
    interpolation: Interpolation,
) -> UInt8[Tensor, "B 3 h w"]:
    """Crop a view out of each image, resize it, antialiased, to (height, width), and mirror it if the view says so.

    Within two steps of 255 of `apply_view`, which has integer weights; a difference of two is rare. The result is on
    the images' device, channels last.

    Args:
        images: at least one; an image is repeated for each of its views.
        views: one per image.
        size: of the results.
        interpolation: of the resize.
    """
    out = torch.empty(
        (len(images), 3, *size), dtype=torch.uint8, device=images[0].device, memory_format=torch.channels_last
    )
    for group in _group_by_size(views):
        crops = [_crop(images[i], views[i]) for i in group]
        flips = torch.tensor([views[i].flip for i in group], device=out.device)
        out[torch.tensor(group, device=out.device)] = _resize(crops, flips, size, interpolation)
    return out


def _crop(image: UInt8[Tensor, "3 H W"], view: View) -> UInt8[Tensor, "3 h w"]:
    return image[:, view.top : view.top + view.height, view.left : view.left + view.width]


def _group_by_size(views: Sequence[View]) -> list[list[int]]:
    """Group the indices of views of similar sizes into batches."""
    groups: list[list[int]] = []
    height = width = 0
    for index in sorted(range(len(views)), key=lambda i: -views[i].height * views[i].width):
        height, width = max(height, views[index].height), max(width, views[index].width)
        if not groups or (len(groups[-1]) + 1) * height * width > _PADDED_PIXELS:
            groups.append([])
            height, width = views[index].height, views[index].width
        groups[-1].append(index)
    return groups


def _resize(
    crops: Sequence[UInt8[Tensor, "3 _ _"]],
    flips: Bool[Tensor, "B"],
    size: tuple[int, int],
    interpolation: Interpolation,
) -> UInt8[Tensor, "B 3 h w"]:
    heights, widths = ([crop.shape[axis] for crop in crops] for axis in (1, 2))
    padded = torch.zeros((len(crops), 3, max(heights), max(widths)), device=flips.device)
    for place, crop in zip(padded, crops, strict=True):
        place[:, : crop.shape[1], : crop.shape[2]] = crop
    vertical = _weights(torch.tensor(heights, device=flips.device), size[0], interpolation)
    horizontal = _weights(torch.tensor(widths, device=flips.device), size[1], interpolation)
    horizontal = torch.where(flips[:, None, None], horizontal.flip(1), horizontal)
    # Rows first, rounded in between, like the kernel for single images.
    narrow = torch.matmul(padded, horizontal.transpose(1, 2)[:, None]).round_().clamp_(0, 255)
    return torch.matmul(vertical[:, None], narrow).round_().clamp_(0, 255).to(torch.uint8)


def _weights(lengths: Int[Tensor, "B"], num: int, interpolation: Interpolation) -> Float[Tensor, "B num longest"]:
    """The weight of each pixel of an axis in each of `num` output pixels, for axes of several lengths."""
    scale = (lengths.double() / num)[:, None, None]
    stretch = scale.clamp(min=1)
    centre = (torch.arange(num, device=lengths.device)[:, None] + 0.5) * scale
    place = torch.arange(int(lengths.max()), device=lengths.device) + 0.5
    weights = _filter((place - centre) / stretch, interpolation)
    weights = torch.where(place < lengths[:, None, None], weights, 0)
    return (weights / weights.sum(2, keepdim=True)).float()


def _filter(x: Float[Tensor, "..."], interpolation: Interpolation) -> Float[Tensor, "..."]:
    """The filter's height at distances x, in pixels; Keys 1981, "Cubic convolution interpolation"."""
    x = x.abs()
    if interpolation == "bilinear":
        return (1 - x).clamp(min=0)
    near = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x**2 + 1
    far = _CUBIC * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))
