"""Dense logits: checked, as log-probabilities, and what of them is in the tail."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pld.errors import SignalError


def check_logits(logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"] | None, k: int) -> None:
    """Raise SignalError unless k is in 1..C, the labels in 0..C-1 and the logits finite."""
    num_classes = logits.shape[1]
    if not 1 <= k <= num_classes:
        raise SignalError(f"k = {k}: the teacher has {num_classes} classes; choose k from 1 to {num_classes}")
    if labels is not None and labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise SignalError(
            f"labels: found {int(labels.min())}..{int(labels.max())}, wanted 0..{num_classes - 1} for logits "
            f"of shape {list(logits.shape)}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise SignalError(f"logits of shape {list(logits.shape)}: found inf or nan, wanted finite values")


def log_probabilities(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """The logits' log-probabilities at T = 1, float32; float64 stays."""
    return torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=1)


def outside(
    logprobs: Float[Tensor, "B C"], classes: Int[Tensor, "B k"], labels: Int[Tensor, "B"] | None
) -> Float[Tensor, "B C"]:
    """The log-probabilities of the tail: -inf for the top k and the label."""
    tail = logprobs.scatter(1, classes, -torch.inf)
    return tail if labels is None else tail.scatter_(1, labels[:, None], -torch.inf)


def tail_masses(
    logprobs: Float[Tensor, "B C"],
    classes: Int[Tensor, "B k"],
    labels: Int[Tensor, "B"] | None,
    temperatures: Sequence[float],
) -> Float[Tensor, "B T"]:
    """The tail's log mass at each temperature, outside the top k and the label."""
    if not temperatures:
        return logprobs[:, :0]
    tail = outside(logprobs, classes, labels)
    return torch.stack([torch.logsumexp(tail / t, dim=1) for t in temperatures], dim=1)
