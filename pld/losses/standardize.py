"""Logit standardisation (Sun et al. 2024)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pld.losses.arguments import check_finite


def standardize_logits(z: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """(z - mean) / (std + 1e-7) over each row's classes, std unbiased; a temperature is applied after.

    Usable with any loss that takes logits, on both sides or on the teacher's alone. A teacher known by a TopK with
    k = C is made dense by `dense_logprobs` first.

    Args:
        z: [B, C], at least 2 classes; half types come back as float32.

    Raises:
        SignalError: a logit is not finite.
    """
    check_finite("z", z)
    wide = z if z.dtype == torch.float64 else z.float()
    centred = wide - wide.mean(dim=1, keepdim=True)
    # A row of equal logits has a std of 0, whose gradient is nan where a square root makes it: norms have 0 there.
    std: Tensor = torch.linalg.vector_norm(centred, dim=1, keepdim=True) / math.sqrt(z.shape[1] - 1)
    return centred / (std + 1e-7)
