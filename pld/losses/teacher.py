"""What a loss reads from a teacher, dense or top-k: a ranking with log_weights, or a distribution over all classes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pld.losses.arguments import check_topk, require_classes
from pld.signals import TopK


class Ranking(NamedTuple):
    """The label, then the other classes the teacher holds, most probable first.

    Attributes:
        classes: int64 [B, k + 1], by rank; the label a second time where it is among the top k.
        valid: bool [B, k + 1], False for the label's second time.
    """

    classes: Int[Tensor, "B R"]
    valid: Bool[Tensor, "B R"]


def as_topk(teacher: TopK | Tensor, labels: Tensor) -> TopK:
    """The teacher as a TopK; a dense one becomes one with k = C, which loses nothing."""
    if isinstance(teacher, TopK):
        return teacher
    # Not TopK.from_logits: the loss has checked the values already, and here looking again would cost a wait.
    logits = teacher.detach()
    logprobs = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=1)
    classes = torch.sort(logits, dim=1, descending=True, stable=True).indices
    return TopK(
        classes=classes,
        logprobs=logprobs.gather(1, classes),
        labels=labels,
        label_logprob=logprobs.gather(1, labels[:, None])[:, 0],
        tail_logmass=logprobs[:, :0],
        temperatures=(),
    )


def ranking(topk: TopK) -> Ranking:
    """The label moved to the front of the teacher's order."""
    label = topk.labels[:, None]
    classes = torch.cat([label, topk.classes], dim=1)
    valid = classes != label
    valid[:, 0] = True
    return Ranking(classes, valid)


def tail_logmass(topk: TopK, num_classes: int, temperature: float) -> Float[Tensor, "B"]:
    """The tail's log mass at a temperature; -inf at any temperature where k = C, as there is no tail.

    Raises:
        SignalError: k < C and the TopK does not hold the temperature.
    """
    if topk.k == num_classes:
        return torch.full_like(topk.label_logprob, -torch.inf)
    return topk.tail_at(temperature)


def log_weights(
    topk: TopK, valid: Bool[Tensor, "B R"], tail: Float[Tensor, "B"], temperature: float
) -> Float[Tensor, "B R_plus_1"]:
    """The teacher's log-probabilities at a temperature, not normalised: a column for each rank, then the whole tail's.

    Args:
        topk: the teacher's signal.
        valid: its ranking's; where it is False the result is -inf.
        tail: the tail's log mass at the temperature.
        temperature: above 0.
    """
    columns = (topk.label_logprob[:, None], topk.logprobs)
    if temperature != 1:
        columns = (columns[0] / temperature, columns[1] / temperature)
    weights = torch.cat([*columns, tail[:, None]], dim=1)
    weights[:, :-1].masked_fill_(~valid, -torch.inf)
    return weights


def dense_logprobs(
    topk: TopK, num_classes: int, *, temperature: float = 1.0, approximate: bool = False
) -> Float[Tensor, "B C"]:
    """The teacher's log-probabilities over all classes, the tail's mass spread evenly over its classes.

    Exact for k = C. For smaller k the tail's classes all get the same value.

    Args:
        topk: the teacher's signal.
        num_classes: C.
        temperature: of the distribution, above 0.
        approximate: allow k < C. Losses that need a dense vector at T = 1 pass True; see `why_all_classes`.

    Raises:
        SignalError: k < C and `approximate` is False, the TopK does not hold the temperature, or holds inf or nan.
    """
    check_topk("topk", topk)
    require_classes("dense_logprobs", topk, num_classes, "a dense vector is asked for", approximate=approximate)
    index, valid = ranking(topk)
    tail = tail_logmass(topk, num_classes, temperature)
    log_probs = torch.log_softmax(log_weights(topk, valid, tail, temperature), dim=1)
    num_tail = (num_classes - valid.sum(dim=1, keepdim=True)).clamp(min=1)
    even = log_probs[:, -1:] - num_tail.to(log_probs.dtype).log()
    # The label's second column, where there is one, repeats the first: the same value twice.
    values = torch.where(valid, log_probs[:, :-1], log_probs[:, :1])
    return even.expand(-1, num_classes).scatter(1, index, values)
