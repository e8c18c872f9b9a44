"""The labels of mixed images, and of any images those with the larger share."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pld.signals.records import with_tensors


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixedLabels:
    """The labels of mixed images (mixup, CutMix): what losses take in place of labels.

    Attributes:
        labels: int64 [B], of the image with the larger share; a TopK's are these.
        others: int64 [B], of the other image; any class where the share is 1.
        share: float32 [B], of the first image, 0.5 to 1.
    """

    labels: Int[Tensor, "B"]
    others: Int[Tensor, "B"]
    share: Float[Tensor, "B"]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> MixedLabels:
        """The same on another device."""
        return with_tensors([self], lambda tensor: tensor.to(device, non_blocking=non_blocking))


def larger_share(labels: Int[Tensor, "B"] | MixedLabels | None) -> Int[Tensor, "B"] | None:
    """The labels of images, int64 [B]; of mixed ones, those of the image with the larger share."""
    return labels.labels if isinstance(labels, MixedLabels) else labels
