"""Refined logit distillation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pld.losses.arguments import reduce_loss
from pld.losses.kd import kl_divergence, label_nll, support, whole_nll
from pld.losses.module import TeacherLossModule, settings_of
from pld.losses.registry import loss
from pld.losses.settings import Alpha, Beta, Reduction, Temperature
from pld.signals import MixedLabels, TopK


@loss("rld", mixed_labels=True, label_part=whole_nll)
def rld_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels,
    weight: Float[Tensor, "B"] | None = None,
    *,
    alpha: Alpha = 1.0,
    beta: Beta = 0.5,
    temperature: Temperature = 1.0,
    approximate: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Refined logit distillation (Sun et al., ICCV 2025, arXiv:2408.07703): CE + alpha * T^2 * SC + beta * T^2 * MC.

    SC, sample confidence, is the KL divergence of the pair (label, all other classes) of the student from the pair
    (most probable class, all others) of the teacher: the label is to be as sure as the teacher's first choice,
    whichever class that is. MC, masked correlation, is that of the softmaxes over the classes that the teacher puts
    below the label: the label itself and what is above it are masked on both sides. MC is 0 where nothing is left.
    The formula and the defaults are those of the authors' code for ImageNet (github.com/zju-SWJ/RLD), which has a
    temperature of its own for SC, 1 by default; here both parts are at T. The paper itself could not be checked beyond
    its summary. Their warm-up over the first epochs is the trainer's business.

    From a TopK with k < C, SC is exact. MC has the tail lumped into one class that is never masked: where the label is
    outside the top-k, nothing else is left and MC is 0. Of a mixed image the label is that of the larger share, and CE
    weighs both labels by their shares.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        teacher: a TopK of these samples, or dense logits [B, C].
        labels: int64 [B], or the MixedLabels of mixed images.
        weight: [B], what each sample counts for.
        alpha: weight of SC, 0 or more.
        beta: weight of MC, 0 or more.
        temperature: of teacher and student, above 0. Above 1 a TopK with k < C is refused unless `approximate`.
        approximate: permit what a truncated TopK cannot support.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: as `kd_loss`.
        ConfigError: as `kd_loss`.
    """
    student, known = support(student_logits, teacher, labels, temperature)
    num_tails = int(isinstance(teacher, TopK) and not teacher.holds_all(student_logits.shape[1]))
    classes = known[:, : known.shape[1] - num_tails]
    label, first = torch.zeros_like(classes[:, :1], dtype=torch.int64), classes.argmax(dim=1, keepdim=True)
    confidence = kl_divergence(_one_and_rest(student, label), _one_and_rest(known, first))
    masked = F.pad(classes >= classes[:, :1], (0, num_tails))
    lowest = torch.finfo(student.dtype).min
    correlation = kl_divergence(student.masked_fill(masked, lowest), known.masked_fill(masked, lowest))
    refined = temperature**2 * (alpha * confidence + beta * correlation)
    return reduce_loss(label_nll(student_logits, labels) + refined, weight, reduction)


class RLDLoss(TeacherLossModule):
    """`rld_loss` as a module."""

    @settings_of(rld_loss)
    def __init__(self) -> None: ...


def _one_and_rest(logits: Float[Tensor, "B M"], column: Int[Tensor, "B 1"]) -> Float[Tensor, "B 2"]:
    """Each row's logit in a column of its own, and all others' as one."""
    rest = logits.scatter(1, column, torch.finfo(logits.dtype).min).logsumexp(dim=1, keepdim=True)
    return torch.cat([logits.gather(1, column), rest], dim=1)
