"""The part of the Plackett-Luce loss that scans over ranks: R listed classes, the rest of the row as one number."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# The smallest probability of a listed class that plain sums handle: float32 holds it, and its inverse, with all digits.
# Students in training stay far above; log space takes over below.
_SMALLEST = 1e-25


class Terms(NamedTuple):
    """Loss and gradient of the listed ranks.

    Attributes:
        loss: [B].
        grad_listed: [B, R], gradient for each listed class; 0 where there is no class.
        rest_scale: [B, 1], what exp(logit - top) of an unlisted class is multiplied by to give its gradient.
    """

    loss: Float[Tensor, "B"]
    grad_listed: Float[Tensor, "B R"]
    rest_scale: Float[Tensor, "B 1"]


def terms_by_sums(
    prob: Float[Tensor, "B R"],
    listed: Bool[Tensor, "B R"],
    weight: Float[Tensor, "B R"],
    rest_sum: Float[Tensor, "B 1"],
) -> Terms | None:
    """The terms from plain sums of probabilities, or None where one is too small for that (or nan).

    Args:
        prob: [B, R], the student's probabilities of the listed classes by rank.
        listed: [B, R], False where there is no class.
        weight: [B, R], not negative, 0 where there is no class.
        rest_sum: [B, 1], the probability of all classes not listed.
    """
    if not prob.amin().item() > _SMALLEST:  # nan is not above it
        return None
    placed = prob.masked_fill(~listed, 0.0)
    # From the last rank to the first: only positive terms are added, so no digits cancel.
    sums = placed.flip(1).cumsum_(dim=1).add_(rest_sum).flip(1)
    # Where there is no class the sum may be empty, and 0 / 0 would be nan.
    sums.clamp_(min=_SMALLEST)
    share = (weight / sums).cumsum_(dim=1)
    loss = sums.div_(prob).log_().mul_(weight).sum(dim=1)
    return Terms(loss, placed.mul_(share).sub_(weight), share[:, -1:])


def terms_in_log_space(
    scores: Float[Tensor, "B R"],
    listed: Bool[Tensor, "B R"],
    weight: Float[Tensor, "B R"],
    rest_top: Float[Tensor, "B 1"],
    rest_sum: Float[Tensor, "B 1"],
) -> Terms:
    """The terms for any finite scores, in float64 where the device has it: R is small and the spread may not be.

    Args:
        scores: [B, R], the logits of the listed classes by rank.
        listed: [B, R], False where there is no class.
        weight: [B, R], not negative, 0 where there is no class.
        rest_top: [B, 1], the largest logit of the classes not listed; here it is the terms' `top`.
        rest_sum: [B, 1], the sum over them of exp(logit - rest_top), 0 where there are none.
    """
    wide = torch.float32 if scores.device.type == "mps" else torch.float64
    weight, rest_top = weight.to(wide), rest_top.to(wide)
    placed = torch.where(listed, scores.to(wide), -torch.inf)
    log_rest = rest_top + rest_sum.to(wide).log()
    lse = torch.cat([log_rest, placed.flip(1)], dim=1).logcumsumexp(dim=1)[:, 1:].flip(1)
    # Where there is no class the sum may be empty, and -inf minus -inf would be nan.
    lse = torch.where(listed, lse, 0.0)
    loss = (weight * torch.where(listed, lse - placed, 0.0)).sum(dim=1)
    log_share = (weight.log() - lse).logcumsumexp(dim=1)
    grad_listed = (placed + log_share).exp() - weight
    rest_scale = (rest_top + log_share[:, -1:]).exp()
    return Terms(*(term.to(scores.dtype) for term in (loss, grad_listed, rest_scale)))
