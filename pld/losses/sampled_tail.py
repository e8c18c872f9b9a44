"""The divergence from a teacher with a sampled tail: an unbiased estimate of that from every class."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pld.losses.plackett_luce.rows import wide_dtype
from pld.losses.teacher import log_weights, ranking
from pld.signals import TopK

# In place of an empty tail's -inf, which would give nan: its exponential is 0 too.
_NOTHING = -1e4


def sampled_divergence(
    student_logits: Float[Tensor, "B C"], teacher: TopK, temperature: float, *, without_label: bool = False
) -> Float[Tensor, "B"]:
    """Estimate KL(teacher || student), both at a temperature, from a TopK with a sampled tail.

    In the notation of `TailSample`, it is the sum over S of p (log p - log q), exactly, and over the tail, with b the
    mean of log q over its n classes,

        M (log r - b) + sum over the classes drawn of [p log(p / r) - (p - r) (1 + log q - b)] / pi.

    The tail's part of the divergence is M (log r - b) plus the same sum over the whole tail without 1 / pi, since the
    sum of p - r over it is 0. The gradient is (q - p'') / T; p'' is the p' of `TailSample`, shifted evenly over the
    tail so that its sum is 1, as the sum of p is: that brings it nearer to p for every draw. An estimate may be
    negative.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        teacher: a TopK of these samples with a sampled tail.
        temperature: of both sides; the TopK must hold it.
        without_label: the divergence of the two distributions over all classes but the label.

    Raises:
        SignalError: the TopK does not hold the temperature.
    """
    scores = student_logits.to(wide_dtype(student_logits)) / temperature
    index, valid = ranking(teacher)
    known = log_weights(teacher, valid, temperature).to(scores.dtype)
    outside = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, index, True).logical_not_()
    num_tail = outside.sum(dim=1, keepdim=True).to(scores.dtype)
    if without_label:
        lowest = torch.finfo(scores.dtype).min
        scores = scores.scatter(1, index[:, :1], lowest)
        index, valid, known = index[:, 1:], valid[:, 1:], known[:, 1:]
    log_q = torch.log_softmax(scores, dim=1)
    log_norm = known.logsumexp(dim=1, keepdim=True)
    log_p = known - log_norm

    listed = (log_p[:, :-1] - log_q.gather(1, index)).masked_fill(~valid, 0.0)
    of_listed = (log_p[:, :-1].exp() * listed).sum(dim=1)

    mean_log_q = torch.where(outside, log_q, 0.0).sum(dim=1, keepdim=True) / num_tail
    log_mass = log_p[:, -1:].clamp(min=_NOTHING)
    log_even = log_mass - num_tail.log()
    drawn = teacher.tail_sample
    assert drawn is not None
    log_drawn = drawn.logprobs.to(scores.dtype) / temperature - log_norm
    excess = log_drawn.exp() - log_even.exp()
    of_drawn = log_drawn.exp() * (log_drawn - log_even) - excess * (1 + log_q.gather(1, drawn.classes) - mean_log_q)
    weight = (-drawn.log_inclusion()).exp().to(scores.dtype)
    of_tail = (log_mass.exp() * (log_even - mean_log_q))[:, 0] + (of_drawn * weight).sum(dim=1)
    return of_listed + of_tail
