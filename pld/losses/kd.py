"""The baselines without a ranking: cross entropy and knowledge distillation."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pld.losses.arguments import reduce_loss
from pld.losses.module import LossModule, TeacherLossModule, settings_of
from pld.losses.registry import loss
from pld.losses.sampled_tail import sampled_divergence
from pld.losses.settings import UNIT_INTERVAL, Alpha, Reduction, Temperature
from pld.losses.teacher import log_weights, ranking
from pld.signals import MixedLabels, TopK, larger_share


@loss("ce", mixed_labels=True, ls={"label_smoothing": 0.1})
def cross_entropy_loss(
    student_logits: Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels,
    weight: Float[Tensor, "B"] | None = None,
    *,
    label_smoothing: Annotated[float, UNIT_INTERVAL, "of ls"] = 0.0,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Cross entropy with the labels, smoothed or not.

    Of a mixed image it is share * CE(label) + (1 - share) * CE(the other image's label).

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        labels: int64 [B], or the MixedLabels of mixed images.
        weight: [B], what each sample counts for.
        label_smoothing: mass spread evenly over all classes, 0 to 1.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: an argument has a wrong shape or dtype, a label or a share is out of range, or a logit or a weight
            is not finite.
        ConfigError: a setting has a value that is not one of its own.
    """
    return reduce_loss(label_nll(student_logits, labels, label_smoothing), weight, reduction)


def alpha_times_nll(
    student_logits: Float[Tensor, "B C"],
    teacher: object,
    labels: Int[Tensor, "B"] | MixedLabels,
    *,
    alpha: float,
    **_: Any,
) -> Float[Tensor, "B"]:
    """The label's part of losses that have alpha * CE."""
    return alpha * label_nll(student_logits, labels)


def whole_nll(
    student_logits: Float[Tensor, "B C"], teacher: object, labels: Int[Tensor, "B"] | MixedLabels, **_: Any
) -> Float[Tensor, "B"]:
    """The label's part of losses that have CE, with a weight of 1."""
    return label_nll(student_logits, labels)


@loss("kd", without_label="alpha", mixed_labels=True, sampled_tail=True, label_part=alpha_times_nll)
def kd_loss(
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
    """Knowledge distillation (Hinton et al. 2015): alpha * CE + (1 - alpha) * T^2 * KL(teacher_T || student_T).

    From a TopK with k < C the tail is lumped into one class, on both sides: a lower bound of the full divergence, and
    never negative. From one with a sampled tail the divergence is an unbiased estimate of the full one, and so is its
    gradient; it may be negative. Of a mixed image CE weighs both labels by their shares; the teacher's distribution is
    that of the mixed image as it is.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        teacher: a TopK of these samples, or dense logits [B, C].
        labels: int64 [B], or the MixedLabels of mixed images; None for images without labels, with alpha = 0.
        weight: [B], what each sample counts for.
        alpha: weight of the cross entropy, 0 to 1.
        temperature: of teacher and student, above 0. Above 1 a TopK with k < C is refused unless it has a sampled tail,
            or `approximate`.
        approximate: permit what a truncated TopK cannot support.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: an argument has a wrong shape or dtype, a label or a share is out of range, a label is not the
            TopK's, a logit, a weight or a value of the TopK is not finite, or the TopK cannot support the temperature.
        ConfigError: a setting has a value that is not one of its own.
    """
    divergence = teacher_divergence(student_logits, teacher, labels, temperature)
    per_sample = label_term(alpha, student_logits, labels) + (1 - alpha) * temperature**2 * divergence
    return reduce_loss(per_sample, weight, reduction)


class CrossEntropyLoss(LossModule):
    """`cross_entropy_loss` as a module."""

    @settings_of(cross_entropy_loss)
    def __init__(self) -> None: ...

    def forward(
        self,
        student_logits: Float[Tensor, "..."],
        labels: Int[Tensor, "..."] | MixedLabels,
        weight: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "*reduced"]:
        """The loss of a batch; the arguments are the function's, or with a layout those of `at_positions`."""
        return self.value((student_logits,), labels, weight)


class KDLoss(TeacherLossModule):
    """`kd_loss` as a module."""

    @settings_of(kd_loss)
    def __init__(self) -> None: ...


def teacher_divergence(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Tensor,
    labels: Tensor | MixedLabels | None,
    temperature: float,
    *,
    student_temperature: float | None = None,
) -> Float[Tensor, "B"]:
    """KL(teacher || student), the student at the teacher's temperature unless another is given.

    From a TopK with a sampled tail it is an unbiased estimate; from another with k < C the tail is lumped.

    Raises:
        SignalError: k < C and the TopK does not hold the temperature.
    """
    if isinstance(teacher, TopK) and teacher.tail_samples:
        return sampled_divergence(student_logits, teacher, temperature, student_temperature=student_temperature)
    both = support(student_logits, teacher, labels, temperature, student_temperature=student_temperature)
    return kl_divergence(*both)


def support(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Tensor,
    labels: Tensor | MixedLabels | None,
    temperature: float,
    *,
    student_temperature: float | None = None,
) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M"]]:
    """Student's and teacher's log-probabilities, not normalised, on the classes that the teacher holds.

    The first column is the label (of a mixed image that of the larger share), the others every other class the teacher
    holds and, for k < C, the tail lumped into one class. Columns that stand for no class hold the lowest finite number
    on both sides: they take no part. Without labels there is no first column for the label. The student has the
    teacher's temperature unless another is given.

    Raises:
        SignalError: k < C and the TopK does not hold the temperature.
    """
    wide = student_logits if student_logits.dtype == torch.float64 else student_logits.float()
    student = wide / (temperature if student_temperature is None else student_temperature)
    lowest = torch.finfo(student.dtype).min
    if isinstance(teacher, Tensor):
        dense = teacher.detach().to(student.dtype) / temperature
        label = larger_share(labels)
        if label is None:
            return student, dense
        return _label_first(student, label, lowest), _label_first(dense, label, lowest)
    index, valid = ranking(teacher)
    listed = student.gather(1, index).masked_fill(~valid, lowest)
    # The lowest finite number, not -inf: an empty tail must have a gradient of zero, not nan.
    known = log_weights(teacher, valid, temperature, student.shape[1]).to(student.dtype).clamp(min=lowest)
    if teacher.holds_all(student.shape[1]):
        return listed, known[:, :-1]
    rest = student.scatter(1, index, lowest).logsumexp(dim=1, keepdim=True)
    return torch.cat([listed, rest], dim=1), known


def label_nll(
    student_logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"] | MixedLabels, label_smoothing: float = 0.0
) -> Float[Tensor, "B"]:
    """Cross entropy per sample, in float32 whatever autocast says (float64 stays); arguments are not checked."""
    logits = student_logits if student_logits.dtype == torch.float64 else student_logits.float()
    if isinstance(labels, MixedLabels):
        own, other = (label_nll(logits, each, label_smoothing) for each in (labels.labels, labels.others))
        share = labels.share.detach().to(logits.dtype)
        return share * own + (1 - share) * other
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")


def label_term(
    alpha: float, student_logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"] | MixedLabels | None
) -> Float[Tensor, "B"] | float:
    """alpha * the labels' cross entropy; 0 without labels, which only alpha = 0 allows."""
    return 0.0 if labels is None else alpha * label_nll(student_logits, labels)


def kl_divergence(student: Float[Tensor, "B M"], teacher: Float[Tensor, "B M"]) -> Float[Tensor, "B"]:
    """KL(teacher || student) of the softmaxes of each row."""
    student, teacher = torch.log_softmax(student, dim=1), torch.log_softmax(teacher, dim=1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)


def _label_first(logits: Float[Tensor, "B C"], labels: Tensor, lowest: float) -> Float[Tensor, "B C_plus_1"]:
    """A column with the label's logit, then all columns with the label's blanked."""
    label = labels[:, None]
    return torch.cat([logits.gather(1, label), logits.scatter(1, label, lowest)], dim=1)
