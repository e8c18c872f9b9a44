"""Cross entropy with a teacher that has a sampled tail, and the divergence from it: unbiased estimates."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pld.losses.plackett_luce.rows import wide_dtype
from pld.losses.teacher import log_weights, ranking
from pld.signals import TopK

# In place of an empty tail's -inf, which would give nan: its exponential is 0 too.
_NOTHING = -1e4


def sampled_divergence(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK,
    temperature: float,
    *,
    student_temperature: float | None = None,
    without_label: bool = False,
) -> Float[Tensor, "B"]:
    """Estimate KL(teacher || student): `sampled_cross_entropy`, of the same arguments, less the teacher's entropy.

    In the notation of `TailSample`, the entropy is the sum of -p log p over S, exactly, and over the tail

        -M log r - sum over the classes drawn of [p log(p / r) - (p - r)] / pi,

    where the sum of p - r over the whole tail is 0. An estimate may be negative.
    """
    known = _Known.of(teacher, temperature, student_logits, without_label=without_label)
    of_student = temperature if student_temperature is None else student_temperature
    return _cross_entropy(student_logits, known, of_student, without_label=without_label) - known.entropy()


def sampled_cross_entropy(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK,
    temperature: float,
    *,
    student_temperature: float | None = None,
    without_label: bool = False,
) -> Float[Tensor, "B"]:
    """Estimate the sum of -p log q over all classes, p of the teacher and q of the student.

    In the notation of `TailSample`, it is that sum over S, exactly, and over the tail, with b the mean of log q there,

        -M b - sum over the classes drawn of (p - r) (log q - b) / pi.

    Without 1 / pi, and summed over the whole tail, that is the tail's part: the sum of p - r over it is 0. The gradient
    is (q - p'') / T; p'' is the p' of `TailSample`, shifted evenly over the tail so that its sum is 1, as the sum of p
    is: that brings it nearer to p for every draw.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        teacher: a TopK of these samples with a sampled tail.
        temperature: the teacher's; the TopK must hold it.
        student_temperature: the student's; None for the teacher's.
        without_label: of the two distributions over all classes but the label.

    Raises:
        SignalError: the TopK does not hold the temperature.
    """
    known = _Known.of(teacher, temperature, student_logits, without_label=without_label)
    of_student = temperature if student_temperature is None else student_temperature
    return _cross_entropy(student_logits, known, of_student, without_label=without_label)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Known:
    """A teacher's log-probabilities at a temperature: of the classes in S, of the tail as a whole, of those drawn."""

    label: Int[Tensor, "B 1"]
    index: Int[Tensor, "B R"]
    valid: Bool[Tensor, "B R"]
    listed: Float[Tensor, "B R"]
    outside: Bool[Tensor, "B C"]
    num_tail: Float[Tensor, "B 1"]
    mass: Float[Tensor, "B 1"]
    drawn_classes: Int[Tensor, "B m"]
    drawn: Float[Tensor, "B m"]
    weight: Float[Tensor, "B m"]

    @classmethod
    def of(cls, teacher: TopK, temperature: float, student_logits: Tensor, *, without_label: bool) -> _Known:
        index, valid = ranking(teacher)
        outside = torch.ones_like(student_logits, dtype=torch.bool).scatter_(1, index, False)
        weights = log_weights(teacher, valid, temperature).to(wide_dtype(student_logits))
        label = index[:, :1]
        if without_label:
            index, valid, weights = index[:, 1:], valid[:, 1:], weights[:, 1:]
        log_norm = weights.logsumexp(dim=1, keepdim=True)
        log_p = weights - log_norm
        sample = teacher.tail_sample
        assert sample is not None
        return cls(
            label=label,
            index=index,
            valid=valid,
            listed=log_p[:, :-1],
            outside=outside,
            num_tail=outside.sum(dim=1, keepdim=True).to(log_p.dtype),
            mass=log_p[:, -1:].clamp(min=_NOTHING),
            drawn_classes=sample.classes,
            drawn=sample.logprobs.to(log_p.dtype) / temperature - log_norm,
            weight=(-sample.log_inclusion()).exp().to(log_p.dtype),
        )

    @property
    def even(self) -> Float[Tensor, "B 1"]:
        """The log of r: each class's share of the tail's mass, spread evenly."""
        return self.mass - self.num_tail.log()

    def entropy(self) -> Float[Tensor, "B"]:
        """See `sampled_divergence`."""
        of_listed = torch.special.entr(self.listed.exp()).sum(dim=1)
        excess = self.drawn.exp() - self.even.exp()
        of_drawn = ((self.drawn.exp() * (self.drawn - self.even) - excess) * self.weight).sum(dim=1)
        entropy: Tensor = of_listed - (self.mass.exp() * self.even)[:, 0] - of_drawn
        return entropy


def _cross_entropy(
    student_logits: Float[Tensor, "B C"], known: _Known, temperature: float, *, without_label: bool
) -> Float[Tensor, "B"]:
    """See `sampled_cross_entropy`; the temperature is the student's."""
    scores = student_logits.to(known.listed.dtype) / temperature
    if without_label:
        scores = scores.scatter(1, known.label, torch.finfo(scores.dtype).min)
    log_q = torch.log_softmax(scores, dim=1)
    of_listed = (known.listed.exp() * log_q.gather(1, known.index).masked_fill(~known.valid, 0.0)).sum(dim=1)
    mean = torch.where(known.outside, log_q, 0.0).sum(dim=1, keepdim=True) / known.num_tail
    excess = known.drawn.exp() - known.even.exp()
    of_drawn = (excess * (log_q.gather(1, known.drawn_classes) - mean) * known.weight).sum(dim=1)
    return -(of_listed + (known.mass.exp() * mean)[:, 0] + of_drawn)
