"""A bound on what a truncated, rounded teacher does to PLD's gradient."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pld.losses.checks import Tail, check_settings, check_topk
from pld.losses.teacher import log_weights, ranking
from pld.signals import TopK


def gradient_error_bound(topk: TopK, temperature: float = 1.0, tail: Tail = "drop") -> Float[Tensor, "B"]:
    """An upper bound of the L1 distance between PLD's gradient from this TopK and from its dense teacher, per sample.

    The gradient is that of one sample's loss with respect to the student's logits, for any student. With q the
    teacher's mass outside S (the top-k and the label) at the temperature, d the logprob_error and u the mass whose rank
    is not certain (0 for a single teacher), the bound is 2 q + 4 tanh(d / 2T) + 2 u, with 4 q for tail="uniform".
    docs/gradient_error_bound.md proves it.

    Args:
        topk: the teacher's signal.
        temperature: the loss's, above 0.
        tail: the loss's.

    Raises:
        SignalError: the TopK does not hold the temperature, or holds inf or nan.
        ConfigError: a setting has a value that is not one of its own.

    Example:
        >>> import torch
        >>> topk = TopK.from_logits(torch.tensor([[4.0, 2.0, 0.0, 0.0]]), torch.tensor([1]), k=2)
        >>> print(f"{gradient_error_bound(topk).item():.4f}")  # twice the mass of the last two classes
        0.0625
    """
    check_settings("gradient_error_bound", temperature=temperature, tail=tail)
    check_topk("topk", topk)
    topk.check_numbers()
    weights = torch.softmax(log_weights(topk, ranking(topk).held, topk.tail_at(temperature), temperature), dim=1)
    per_mass = 2 if tail == "drop" else 4
    bound = per_mass * weights[:, -1] + 4 * math.tanh(topk.logprob_error / (2 * temperature))
    return bound if topk.unsettled is None else bound + 2 * (weights[:, 1:-1] * topk.unsettled).sum(dim=1)
