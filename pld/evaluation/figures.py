"""The figures of an evaluation, as means of sums over the batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pld.losses import kd_loss
from pld.signals import TopK

_CALIBRATION_BINS = 15
# Behind the number of samples come the sums of five figures, then those by bin of confidence.
_NUM_SCALARS = 6
NUM_SUMS = _NUM_SCALARS + 2 * _CALIBRATION_BINS


def batch_sums(
    logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"], teacher: TopK | None = None
) -> Float[Tensor, "sums"]:
    """What a batch adds to the figures, float64 [NUM_SUMS]; sums of batches add up, in any order."""
    scalars = [labels.new_tensor([len(labels)]).double(), _label_sums(logits, labels)]
    scalars.append(_teacher_sums(logits, teacher) if teacher else labels.new_zeros(2).double())
    return torch.cat([*scalars, _calibration(logits, labels).flatten()])


def num_samples(sums: Float[Tensor, "sums"]) -> int:
    """How many samples are in the sums."""
    return int(sums[0].item())


def to_figures(sums: Float[Tensor, "sums"], *, has_teacher: bool) -> dict[str, float | int]:
    """The figures of the samples in the sums, at least one, as `evaluate` returns them."""
    means = sums / sums[0]
    _, top1, top5, nll, agreement, kl = means[:_NUM_SCALARS].tolist()
    confidence, correct = means[_NUM_SCALARS:].unflatten(0, (2, _CALIBRATION_BINS))
    ece = float((confidence - correct).abs().sum())
    figures: dict[str, float | int] = {"top1": 100 * top1, "top5": 100 * top5, "nll": nll, "ece": 100 * ece}
    return figures | ({"agreement": 100 * agreement, "kl": kl} if has_teacher else {})


def _label_sums(logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"]) -> Float[Tensor, "3"]:
    """How often the label is first and among the first five, and the sum of its negative log-probability."""
    hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    nll = F.cross_entropy(logits, labels, reduction="none").double().sum()
    return torch.stack([hits[:, 0].sum().double(), hits.any(1).sum().double(), nll])


def _teacher_sums(logits: Float[Tensor, "B C"], teacher: TopK) -> Float[Tensor, "2"]:
    """How often model and teacher choose alike, and the sum of the teacher's KL to the model."""
    alike = (logits.argmax(1) == teacher.classes[:, 0]).sum()
    kl = kd_loss(logits, teacher, teacher.labels, alpha=0.0, temperature=1.0, reduction="none").double().sum()
    return torch.stack([alike.double(), kl])


def _calibration(logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"]) -> Float[Tensor, "2 bins"]:
    """By bin of confidence: the sum of confidences, and how many of their choices are right."""
    confidence, choice = logits.softmax(1).max(1)
    index = (confidence * _CALIBRATION_BINS).long().clamp(max=_CALIBRATION_BINS - 1)
    values = torch.stack([confidence, (choice == labels).float()]).double()
    return values.new_zeros(2, _CALIBRATION_BINS).scatter_add_(1, index.expand(2, -1), values)
