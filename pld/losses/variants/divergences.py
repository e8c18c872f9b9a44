"""Divergences other than KD's: reverse KL, Jensen-Shannon, and soft-target cross entropy."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pld.losses.arguments import reduce_loss
from pld.losses.kd import alpha_times_nll, kl_divergence, label_term, support
from pld.losses.module import TeacherLossModule, settings_of
from pld.losses.registry import loss
from pld.losses.sampled_tail import sampled_cross_entropy
from pld.losses.settings import UNIT_INTERVAL, Alpha, Reduction, Temperature
from pld.signals import MixedLabels, TopK

# Their error is what the student gives to the classes outside the top-k, and a young student gives them nearly all.
_STUDENT_WEIGHS = "the student's own probabilities weigh the classes outside the top-k"


@loss("rkl", all_classes=_STUDENT_WEIGHS, without_label="alpha", mixed_labels=True, label_part=alpha_times_nll)
def rkl_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels | None,
    weight: Float[Tensor, "B"] | None = None,
    *,
    alpha: Annotated[Alpha, UNIT_INTERVAL] = 0.1,
    temperature: Temperature = 2.0,
    approximate: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Reverse KL: alpha * CE + (1 - alpha) * T^2 * KL(student_T || teacher_T), KD with its divergence turned round.

    One of the divergences that the PLD paper compares with (arXiv:2506.12542v3, table 11). That table's alpha and T
    could not be checked: the defaults are KD's. A TopK with k < C is refused at every temperature unless `approximate`,
    which lumps the tail into one class, as KD does. Mixed images are taken as in KD.

    Arguments and errors are `kd_loss`'s.
    """
    student, target = support(student_logits, teacher, labels, temperature)
    divergence = kl_divergence(target, student)
    per_sample = label_term(alpha, student_logits, labels) + (1 - alpha) * temperature**2 * divergence
    return reduce_loss(per_sample, weight, reduction)


@loss("js", all_classes=_STUDENT_WEIGHS, without_label="alpha", mixed_labels=True, label_part=alpha_times_nll)
def js_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels | None,
    weight: Float[Tensor, "B"] | None = None,
    *,
    alpha: Annotated[Alpha, UNIT_INTERVAL] = 0.1,
    temperature: Temperature = 2.0,
    approximate: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Jensen-Shannon: alpha * CE + (1 - alpha) * T^2 * JS(teacher_T, student_T).

    JS(p, q) is the mean of KL(p || m) and KL(q || m), m being (p + q) / 2: at most log 2. One of the divergences that
    the PLD paper compares with (arXiv:2506.12542v3, table 11). That table's alpha and T could not be checked: the
    defaults are KD's. A TopK with k < C is refused at every temperature unless `approximate`, which lumps the tail into
    one class, as KD does. Mixed images are taken as in KD.

    Arguments and errors are `kd_loss`'s.
    """
    student, target = (torch.log_softmax(side, dim=1) for side in support(student_logits, teacher, labels, temperature))
    middle = torch.logaddexp(student, target) - math.log(2)
    divergence = (kl_divergence(middle, student) + kl_divergence(middle, target)) / 2
    per_sample = label_term(alpha, student_logits, labels) + (1 - alpha) * temperature**2 * divergence
    return reduce_loss(per_sample, weight, reduction)


@loss("soft_ce", without_label=True, mixed_labels=True, sampled_tail=True)
def soft_ce_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels | None,
    weight: Float[Tensor, "B"] | None = None,
    *,
    temperature: Temperature = 1.0,
    approximate: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Cross entropy with the teacher's softmax at T as the target, and nothing of the label.

    Soft targets (Hinton et al. 2015, arXiv:1503.02531) as the caches of FKD (arXiv:2112.01528) and TinyViT
    (arXiv:2207.10666) train with them, at T = 1. As in PLD, the student is not tempered. At T = 1 the gradient is that
    of KD at T = 1 with alpha = 0, and the value is larger by the teacher's entropy. From a TopK with k < C the tail is
    lumped into one class, on both sides: a lower bound; with a sampled tail, value and gradient are unbiased estimates.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        teacher: a TopK of these samples, or dense logits [B, C].
        labels: int64 [B], MixedLabels, or None: those of the TopK. They only say which class is kept beside the top k.
        weight: [B], what each sample counts for.
        temperature: the teacher's, above 0. Above 1 a TopK with k < C is refused unless it has a sampled tail,
            or `approximate`.
        approximate: permit what a truncated TopK cannot support.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: as `kd_loss`.
        ConfigError: as `kd_loss`.
    """
    if isinstance(teacher, TopK) and teacher.tail_samples:
        per_sample = sampled_cross_entropy(student_logits, teacher, temperature, student_temperature=1.0)
    else:
        student, target = support(student_logits, teacher, labels, temperature, student_temperature=1.0)
        per_sample = -(torch.softmax(target, dim=1) * torch.log_softmax(student, dim=1)).sum(dim=1)
    return reduce_loss(per_sample, weight, reduction)


class RKLLoss(TeacherLossModule):
    """`rkl_loss` as a module."""

    @settings_of(rkl_loss)
    def __init__(self) -> None: ...


class JSLoss(TeacherLossModule):
    """`js_loss` as a module."""

    @settings_of(js_loss)
    def __init__(self) -> None: ...


class SoftCELoss(TeacherLossModule):
    """`soft_ce_loss` as a module."""

    @settings_of(soft_ce_loss)
    def __init__(self) -> None: ...
