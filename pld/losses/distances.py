"""The baselines without a ranking: cross entropy, KD and decoupled KD."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pld.losses.checks import Reduction, check_labels, check_settings, check_student, check_teacher
from pld.losses.reduction import reduce_loss
from pld.losses.requirements import require_classes, why_all_classes
from pld.losses.support import Support, support
from pld.signals import TopK


def cross_entropy_loss(
    student_logits: Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    *,
    label_smoothing: float = 0.0,
    weight: Float[Tensor, "B"] | None = None,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Cross entropy with the labels, smoothed or not.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        labels: int64 [B].
        label_smoothing: mass spread evenly over all classes, 0 to 1.
        weight: [B], what each sample counts for.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: an argument has a wrong shape or dtype, a label is out of range, or a logit or a weight is not
            finite.
        ConfigError: a setting has a value that is not one of its own.
    """
    check_settings("cross_entropy_loss", label_smoothing=label_smoothing)
    check_student(student_logits)
    check_labels(labels, student_logits)
    return reduce_loss(label_nll(student_logits, labels, label_smoothing), weight, reduction)


def kd_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    *,
    alpha: float = 0.1,
    temperature: float = 2.0,
    approximate: bool = False,
    weight: Float[Tensor, "B"] | None = None,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Knowledge distillation (Hinton et al. 2015): alpha * CE + (1 - alpha) * T^2 * KL(teacher_T || student_T).

    From a TopK with k < C the tail is lumped into one class, on both sides: a lower bound of the full divergence, and
    never negative.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        teacher: a TopK of these samples, or dense logits [B, C].
        labels: int64 [B].
        alpha: weight of the cross entropy, 0 to 1.
        temperature: of teacher and student, above 0. Above 1 a TopK with k < C is refused unless `approximate`.
        approximate: permit what a truncated TopK cannot support.
        weight: [B], what each sample counts for.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: an argument has a wrong shape or dtype, a label is out of range or not the TopK's, a logit, a
            weight or a value of the TopK is not finite, or the TopK cannot support the temperature.
        ConfigError: a setting has a value that is not one of its own.
    """
    check_settings("kd_loss", alpha=alpha, temperature=temperature, approximate=approximate)
    both = _checked_support("kd_loss", student_logits, teacher, labels, temperature, approximate)
    per_sample = alpha * label_nll(student_logits, labels) + (1 - alpha) * temperature**2 * _kl(*both)
    return reduce_loss(per_sample, weight, reduction)


def dkd_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    approximate: bool = False,
    weight: Float[Tensor, "B"] | None = None,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Decoupled knowledge distillation (Zhao et al. 2022): CE + alpha * T^2 * TCKD + beta * T^2 * NCKD.

    TCKD is the KL divergence of the pair (label, all other classes), NCKD that of the softmax over the other classes.
    The authors' defaults for CIFAR; for ImageNet they use beta = 0.5 and T = 1. From a TopK with k < C, TCKD is exact
    and NCKD has the tail lumped into one class: a lower bound.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        teacher: a TopK of these samples, or dense logits [B, C].
        labels: int64 [B].
        alpha: weight of TCKD, 0 or more.
        beta: weight of NCKD, 0 or more.
        temperature: of teacher and student, above 0. Above 1 a TopK with k < C is refused unless `approximate`.
        approximate: permit what a truncated TopK cannot support.
        weight: [B], what each sample counts for.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: as `kd_loss`.
        ConfigError: as `kd_loss`.
    """
    check_settings("dkd_loss", alpha=alpha, beta=beta, temperature=temperature, approximate=approximate)
    both = _checked_support("dkd_loss", student_logits, teacher, labels, temperature, approximate)
    others = Support(both.student[:, 1:], both.teacher[:, 1:])
    pair = (torch.stack([side[:, 0], side[:, 1:].logsumexp(dim=1)], dim=1) for side in both)
    divergence = alpha * _kl(*pair) + beta * _kl(*others)
    return reduce_loss(label_nll(student_logits, labels) + temperature**2 * divergence, weight, reduction)


def label_nll(
    student_logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"], label_smoothing: float = 0.0
) -> Float[Tensor, "B"]:
    """Cross entropy per sample, in float32 whatever autocast says (float64 stays); arguments are not checked."""
    logits = student_logits if student_logits.dtype == torch.float64 else student_logits.float()
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")


def _kl(student: Float[Tensor, "B M"], teacher: Float[Tensor, "B M"]) -> Float[Tensor, "B"]:
    """KL(teacher || student) of the softmaxes of each row."""
    student, teacher = torch.log_softmax(student, dim=1), torch.log_softmax(teacher, dim=1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)


def _checked_support(
    loss: str, student_logits: Tensor, teacher: TopK | Tensor, labels: Tensor, temperature: float, approximate: bool
) -> Support:
    """Both sides on the classes the teacher holds, once the arguments are found to fit each other."""
    check_student(student_logits)
    check_labels(labels, student_logits)
    check_teacher(teacher, labels, student_logits)
    if isinstance(teacher, TopK):
        reason = why_all_classes(loss, temperature)
        require_classes(loss, teacher, student_logits.shape[1], reason, approximate=approximate)
    return support(student_logits, teacher, labels, temperature)
