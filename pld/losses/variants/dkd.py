"""Decoupled knowledge distillation."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pld.losses.arguments import reduce_loss
from pld.losses.kd import kl_divergence, label_nll, support, whole_nll
from pld.losses.module import TeacherLossModule, settings_of
from pld.losses.registry import loss
from pld.losses.sampled_tail import sampled_divergence
from pld.losses.settings import Alpha, Beta, Reduction, Temperature
from pld.signals import MixedLabels, TopK


@loss("dkd", mixed_labels=True, sampled_tail=True, label_part=whole_nll)
def dkd_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels,
    weight: Float[Tensor, "B"] | None = None,
    *,
    alpha: Alpha = 1.0,
    beta: Beta = 8.0,
    temperature: Temperature = 4.0,
    approximate: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Decoupled knowledge distillation (Zhao et al. 2022): CE + alpha * T^2 * TCKD + beta * T^2 * NCKD.

    TCKD is the KL divergence of the pair (label, all other classes), NCKD that of the softmax over the other classes.
    The authors' defaults for CIFAR; for ImageNet they use beta = 0.5 and T = 1. From a TopK with k < C, TCKD is exact
    and NCKD has the tail lumped into one class: a lower bound. With a sampled tail, NCKD and its gradient are unbiased
    estimates of the full ones: what they are divided by, the teacher's mass beside the label, is exact. It divides the
    classes by the label, so it needs one. Of a mixed image the label is that of the larger share, and CE weighs both
    labels by their shares.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        teacher: a TopK of these samples, or dense logits [B, C].
        labels: int64 [B], or the MixedLabels of mixed images.
        weight: [B], what each sample counts for.
        alpha: weight of TCKD, 0 or more.
        beta: weight of NCKD, 0 or more.
        temperature: of teacher and student, above 0. Above 1 a TopK with k < C is refused unless it has a sampled tail,
            or `approximate`.
        approximate: permit what a truncated TopK cannot support.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: as `kd_loss`.
        ConfigError: as `kd_loss`.
    """
    both = support(student_logits, teacher, labels, temperature)
    pair = (torch.stack([side[:, 0], side[:, 1:].logsumexp(dim=1)], dim=1) for side in both)
    if isinstance(teacher, TopK) and teacher.tail_samples:
        of_others = sampled_divergence(student_logits, teacher, temperature, without_label=True)
    else:
        of_others = kl_divergence(*(side[:, 1:] for side in both))
    divergence = alpha * kl_divergence(*pair) + beta * of_others
    return reduce_loss(label_nll(student_logits, labels) + temperature**2 * divergence, weight, reduction)


class DKDLoss(TeacherLossModule):
    """`dkd_loss` as a module."""

    @settings_of(dkd_loss)
    def __init__(self) -> None: ...
