"""Weighted transformed teacher matching."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pld.losses.arguments import reduce_loss
from pld.losses.kd import alpha_times_nll, label_term, support, teacher_divergence
from pld.losses.module import TeacherLossModule, settings_of
from pld.losses.plackett_luce.rows import wide_dtype
from pld.losses.registry import loss
from pld.losses.settings import Alpha, Beta, Reduction, Temperature
from pld.signals import MixedLabels, TopK


@loss("wttm", without_label="alpha", mixed_labels=True, sampled_tail=True, label_part=alpha_times_nll)
def wttm_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels | None,
    weight: Float[Tensor, "B"] | None = None,
    *,
    alpha: Alpha = 1.0,
    beta: Beta = 1.0,
    temperature: Temperature = 2.0,
    approximate: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Weighted transformed teacher matching (Zheng and Yang, ICLR 2024, arXiv:2402.11148): alpha * CE + beta * U * KL.

    With p the teacher's probabilities at T = 1, U is the sum over classes of p^(1/T), one number a sample that is large
    where the teacher is unsure, and KL that of p^(1/T) / U from the student's softmax, which is not tempered. The
    formula is that of the authors' code (github.com/zkxufo/TTM), whose exponent is our 1/T; alpha is 1 there. The T and
    beta of its ImageNet runs (the paper's appendix A.4) could not be checked: these defaults are ours.

    U is exact from any TopK that holds T. From k < C the KL has the tail lumped into one class: a lower bound; with a
    sampled tail, it and its gradient are unbiased estimates. Of a mixed image CE weighs both labels by their shares.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        teacher: a TopK of these samples, or dense logits [B, C].
        labels: int64 [B], or the MixedLabels of mixed images; None for images without labels, with alpha = 0.
        weight: [B], what each sample counts for.
        alpha: weight of the cross entropy, 0 or more.
        beta: weight of the teacher's term, 0 or more.
        temperature: the teacher's, above 0. Above 1 a TopK with k < C is refused unless it has a
            sampled tail, or `approximate`.
        approximate: permit what a truncated TopK cannot support.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: as `kd_loss`.
        ConfigError: as `kd_loss`.
    """
    if isinstance(teacher, Tensor):  # a TopK has log-probabilities already
        teacher = torch.log_softmax(teacher.detach(), dim=1, dtype=wide_dtype(student_logits))
    _, powers = support(student_logits, teacher, labels, temperature)
    divergence = teacher_divergence(student_logits, teacher, labels, temperature, student_temperature=1.0)
    divergence = powers.logsumexp(dim=1).exp() * divergence
    return reduce_loss(label_term(alpha, student_logits, labels) + beta * divergence, weight, reduction)


class WTTMLoss(TeacherLossModule):
    """`wttm_loss` as a module."""

    @settings_of(wttm_loss)
    def __init__(self) -> None: ...
