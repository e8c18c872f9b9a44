"""Convert a teacher, dense or top-k, for the losses: to a ranking with log-weights or to dense log-probabilities."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pld.losses.arguments import check_topk, require_classes
from pld.signals import MixedLabels, TopK, larger_share


def as_topk(teacher: TopK | Tensor, labels: Tensor | MixedLabels | None) -> TopK:
    """The teacher as a TopK; a dense one becomes one with k = C, which loses nothing.

    Of mixed labels, its label is that of the larger share.
    """
    if isinstance(teacher, TopK):
        return teacher
    # The loss has checked the values; to look again would cost a wait.
    return TopK.from_checked_logits(teacher.detach(), larger_share(labels), teacher.shape[1], ())


def ranking(topk: TopK) -> tuple[Int[Tensor, "B R"], Bool[Tensor, "B R"]]:
    """The label, then the other classes that the teacher holds, most probable first.

    Returns:
        Classes by rank, int64 [B, k + 1], with the label a second time where it is among the top k; and which of these
        entries are valid, bool [B, k + 1]: all but the label's second time. Without labels the teacher's classes alone,
        [B, k], all valid. Padding is not valid either, and repeats the first column.
    """
    if topk.labels is None:
        return topk.classes, topk.listed
    label = topk.labels[:, None]
    classes = torch.cat([label, topk.classes], dim=1)
    valid = classes != label
    valid[:, 0] = True
    if topk.counts is not None:
        valid[:, 1:] &= topk.listed
        classes = torch.where(valid, classes, label)
    return classes, valid


def log_weights(
    topk: TopK, valid: Bool[Tensor, "B R"], temperature: float, num_classes: int | None = None
) -> Float[Tensor, "B R_plus_1"]:
    """The teacher's log-probabilities at a temperature, not normalised: a column for each rank, then the whole tail's.

    It is -inf where an entry of the ranking is not valid, and in the tail where all of num_classes are held: then there
    is none, at any temperature.

    Raises:
        SignalError: there may be a tail, and the TopK does not hold the temperature.
    """
    no_tail = num_classes is not None and topk.holds_all(num_classes)
    tail = torch.full_like(topk.logprobs[:, 0], -torch.inf) if no_tail else topk.tail_at(temperature)
    columns = [topk.logprobs] if topk.label_logprob is None else [topk.label_logprob[:, None], topk.logprobs]
    if temperature != 1:
        columns = [column / temperature for column in columns]
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
        approximate: allow k < C. Losses that need a dense vector at T = 1 pass True; see `require_classes`.

    Raises:
        SignalError: k < C and `approximate` is False, the TopK does not hold the temperature, or holds inf or nan.
    """
    check_topk("topk", topk)
    require_classes("dense_logprobs", topk, num_classes, "a dense vector is asked for", approximate=approximate)
    index, valid = ranking(topk)
    log_probs = torch.log_softmax(log_weights(topk, valid, temperature, num_classes), dim=1)
    num_tail = (num_classes - valid.sum(dim=1, keepdim=True)).clamp(min=1)
    even = log_probs[:, -1:] - num_tail.to(log_probs.dtype).log()
    # What is not valid, a label's second column and padding, repeats the first column: the same value twice.
    values = torch.where(valid, log_probs[:, :-1], log_probs[:, :1])
    return even.expand(-1, num_classes).scatter(1, index, values)
