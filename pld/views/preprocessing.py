"""A model's preprocessing: input size, interpolation, mean and std."""

from __future__ import annotations

import dataclasses
import functools

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pld.buffer_pool import BufferPool
from pld.views import Interpolation
from pld.views.colours import IMAGENET_MEAN, IMAGENET_STD

_buffers = BufferPool()
_PIECE = 65_536  # numbers: a quarter of a megabyte


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a view becomes a model's input.

    Attributes:
        input_size: (height, width), pixels.
        interpolation: of the resize.
        mean: per channel, of pixels in 0..1.
        std: per channel, of pixels in 0..1.
        crop_fraction: the centre crop under which the model was evaluated.
    """

    input_size: tuple[int, int] = (224, 224)
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop_fraction: float = 0.875

    def normalize(self, images: UInt8[Tensor, "B 3 h w"]) -> Float[Tensor, "B 3 h w"]:
        """(pixel / 255 - mean) / std in float32, on the images' device and in their memory format."""
        mean, scale = _constants(self.mean, self.std, images.device)
        if images.device.type == "cpu" and images.is_contiguous(memory_format=torch.channels_last):
            return _normalize_rows(images, mean, scale)
        return images.float().sub_(mean[:, None, None]).mul_(scale[:, None, None])


@functools.cache
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """255 x mean and 1 / (255 x std), copied to each device once: every copy would wait for the GPU's pending work."""
    with torch.inference_mode(mode=False):
        mean_255 = torch.tensor(mean, device=device).mul_(255)
        return mean_255, torch.tensor(std, device=device).mul_(255).reciprocal_()


def _normalize_rows(
    images: UInt8[Tensor, "B 3 h w"], mean: Float[Tensor, "3"], scale: Float[Tensor, "3"]
) -> Float[Tensor, "B 3 h w"]:
    """The same on a CPU, in pieces that fit its cache and rows that are long enough to vectorise."""
    num, channels, height, width = images.shape
    mean, scale = mean.repeat(width), scale.repeat(width)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, width * channels)
    rows = _buffers.empty(tuple(pixels.shape), torch.float32)
    piece = max(1, _PIECE // (width * channels))
    for source, target in zip(pixels.split(piece), rows.split(piece), strict=True):
        target.copy_(source).sub_(mean).mul_(scale)
    return rows.view(num, height, width, channels).permute(0, 3, 1, 2)
