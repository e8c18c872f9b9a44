"""Entropy-based adaptive knowledge distillation."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pld.losses.arguments import reduce_loss
from pld.losses.kd import alpha_times_nll, label_term, teacher_divergence
from pld.losses.module import TeacherLossModule, settings_of
from pld.losses.plackett_luce.rows import wide_dtype
from pld.losses.registry import loss
from pld.losses.settings import POSITIVE, Alpha, Beta, Reduction, Temperature
from pld.losses.teacher import log_weights, ranking
from pld.signals import MixedLabels, TopK


@loss("ea_kd", without_label="alpha", mixed_labels=True, sampled_tail=True, label_part=alpha_times_nll)
def ea_kd_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels | None,
    weight: Float[Tensor, "B"] | None = None,
    *,
    alpha: Alpha = 1.0,
    beta: Beta = 0.5,
    temperature: Temperature = 1.0,
    entropy_temperature: Annotated[float, POSITIVE, "of the entropies that weigh a sample in {losses}"] = 2.0,
    approximate: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """EA-KD (Su et al., ICCV 2025, arXiv:2311.13621): alpha * CE + beta * w * T^2 * KL(teacher_T || student_T).

    w = H_t / 2 * (1 + H_s / log C), with H_t and H_s the entropies of teacher and student at `entropy_temperature`, in
    nats: samples of which the teacher is unsure count for more. No gradient flows through w. The formula and the
    defaults are those of the authors' code for ImageNet (github.com/cpsu00/EA-KD); the paper itself could not be
    checked beyond its summary. For CIFAR-100 that code divides H_s by 100 in one file and by log 100 in another.

    From a TopK with k < C the KL is KD's, with a lumped or a sampled tail, and H_t, also beside a sampled tail, has the
    tail's mass spread evenly over its classes, which is the most it can be: of lite2's logits, k = 10 of 1000 at
    temperature 2, 1.4 % too much on average (docs/decisions/0028). w stays too large by that; nothing averages it out.
    Of a mixed image CE weighs both labels by their shares.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        teacher: a TopK of these samples, or dense logits [B, C].
        labels: int64 [B], or the MixedLabels of mixed images; None for images without labels, with alpha = 0.
        weight: [B], what each sample counts for.
        alpha: weight of the cross entropy, 0 or more.
        beta: weight of the teacher's term, 0 or more.
        temperature: of teacher and student in the KL, above 0. Above 1 a TopK with k < C is refused unless it has a
            sampled tail, or `approximate`.
        entropy_temperature: of teacher and student in w, above 0; a TopK with k < C must hold it too.
        approximate: permit what a truncated TopK cannot support.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: as `kd_loss`.
        ConfigError: as `kd_loss`.
    """
    student = student_logits.detach().to(wide_dtype(student_logits))
    num_classes = student.shape[1]
    of_student = _entropy(torch.softmax(student / entropy_temperature, dim=1))
    of_teacher = _teacher_entropy(teacher, entropy_temperature, student)
    value = of_teacher / 2 * (1 + of_student / math.log(max(num_classes, 2)))
    divergence = value * teacher_divergence(student_logits, teacher, labels, temperature)
    per_sample = label_term(alpha, student_logits, labels) + beta * temperature**2 * divergence
    return reduce_loss(per_sample, weight, reduction)


class EAKDLoss(TeacherLossModule):
    """`ea_kd_loss` as a module."""

    @settings_of(ea_kd_loss)
    def __init__(self) -> None: ...


def _teacher_entropy(teacher: TopK | Tensor, temperature: float, student: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """The entropy of the teacher's softmax at a temperature, nats, in the student's dtype; a tail is spread evenly."""
    if isinstance(teacher, Tensor):
        return _entropy(torch.softmax(teacher.detach().to(student.dtype) / temperature, dim=1))
    num_classes = student.shape[1]
    _, valid = ranking(teacher)
    weights = torch.softmax(log_weights(teacher, valid, temperature, num_classes).to(student.dtype), dim=1)
    num_tail = (num_classes - valid.sum(dim=1)).clamp(min=1)
    return _entropy(weights) + weights[:, -1] * num_tail.to(student.dtype).log()


def _entropy(probabilities: Float[Tensor, "B M"]) -> Float[Tensor, "B"]:
    """The entropy of each row, nats."""
    entropy: Tensor = torch.special.entr(probabilities).sum(dim=1)
    return entropy
