"""Teacher and student side by side on the classes the teacher holds, as KL divergences need them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pld.losses.teacher import log_weights, ranking, tail_logmass
from pld.signals import TopK


class Support(NamedTuple):
    """Unnormalised log-probabilities of both at one temperature, column by column.

    The first column is the label, the others every other class the teacher holds and, for k < C, the tail lumped into
    one class. Columns that stand for no class hold the lowest finite number on both sides: they take no part.

    Attributes:
        student: [B, M].
        teacher: [B, M].
    """

    student: Float[Tensor, "B M"]
    teacher: Float[Tensor, "B M"]


def support(
    student_logits: Float[Tensor, "B C"], teacher: TopK | Tensor, labels: Tensor, temperature: float
) -> Support:
    """Pair the two up; the student's in float32 (float64 stays).

    Raises:
        SignalError: k < C and the TopK does not hold the temperature.
    """
    student = (student_logits if student_logits.dtype == torch.float64 else student_logits.float()) / temperature
    lowest = torch.finfo(student.dtype).min
    if isinstance(teacher, Tensor):
        dense = teacher.detach().to(student.dtype) / temperature
        return Support(_label_first(student, labels, lowest), _label_first(dense, labels, lowest))
    index, held = ranking(teacher)
    listed = student.gather(1, index).masked_fill(~held, lowest)
    # The lowest finite number, not -inf: an empty tail must have a gradient of zero, not nan.
    tail = tail_logmass(teacher, student.shape[1], temperature)
    known = log_weights(teacher, held, tail, temperature).to(student.dtype).clamp(min=lowest)
    if teacher.k == student.shape[1]:
        return Support(listed, known[:, :-1])
    rest = student.scatter(1, index, lowest).logsumexp(dim=1, keepdim=True)
    return Support(torch.cat([listed, rest], dim=1), known)


def _label_first(logits: Float[Tensor, "B C"], labels: Tensor, lowest: float) -> Float[Tensor, "B C_plus_1"]:
    """A column with the label's logit, then all columns with the label's blanked."""
    label = labels[:, None]
    return torch.cat([logits.gather(1, label), logits.scatter(1, label, lowest)], dim=1)
