"""What a model wants its pixels to be: size, interpolation, mean and std."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pld.views import Interpolation

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
        mean = torch.tensor(self.mean, device=images.device).mul_(255)[:, None, None]
        scale = torch.tensor(self.std, device=images.device).mul_(255).reciprocal_()[:, None, None]
        return images.float().sub_(mean).mul_(scale)
