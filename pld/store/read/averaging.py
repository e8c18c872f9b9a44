"""Several teachers as one: the average of their probabilities, ranked anew, and what that leaves uncertain.

What a top-k does not list of a class lies in its tail. So an average gives each class the mean of the shares that are
known of it, and the tail the rest: together 1. docs/gradient_error_bound.md proves the bound that follows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from pld.errors import SignalError
from pld.signals import TopK

# What float32 may add to the rounding of a log-probability, nats.
_FLOAT32 = 1e-6
# exp of less is 0, also in float64.
_DEEPEST = -700.0


def average(topks: Sequence[TopK], num_classes: int) -> TopK:
    """The mean of several teachers' probabilities of the same samples, most probable first.

    Where all teachers hold all classes nothing is unknown, and every temperature that all hold is kept; else T = 1 is
    the only one, as tails' masses at others do not add up to an average's.

    Args:
        topks: one of each teacher.
        num_classes: C of all teachers.

    Returns:
        The k most probable classes, k being the teachers' smallest. `logprob_error` is the teachers' largest;
        `unsettled` marks the classes whose rank the teachers' signals do not settle.

    Raises:
        SignalError: the labels differ, or a teacher lacks T = 1.
    """
    first, k = topks[0], min(topk.k for topk in topks)
    if any(not _same_labels(topk, first) for topk in topks):
        raise SignalError("average: the teachers' labels differ; average signals of the same samples")
    shares = _known_shares(topks)
    order = _ranking(shares)
    mean, classes, dtype = shares.mean.gather(1, order), shares.classes.gather(1, order), first.logprobs.dtype
    # Of rows that list fewer classes, all teachers' together may be fewer than k.
    counts = shares.is_class.sum(1).clamp(max=k) if any(topk.counts is not None for topk in topks) else None
    left_out = mean[:, k:].masked_fill(_is_label(classes[:, k:], first), 0.0).sum(1)
    unlisted = torch.stack([topk.tail_at(1.0).double().exp() for topk in topks]).mean(0)
    temperatures = (
        common_temperatures([topk.temperatures for topk in topks])
        if all(topk.holds_all(num_classes) for topk in topks)
        else (1.0,)
    )
    averaged = TopK(
        classes=classes[:, :k],
        logprobs=_log(mean[:, :k]).to(dtype),
        labels=first.labels,
        label_logprob=_mean_label_logprob(topks),
        tail_logmass=(unlisted + left_out).log().to(dtype)[:, None].repeat(1, len(temperatures)),
        temperatures=temperatures,
        logprob_error=max(topk.logprob_error for topk in topks),
    )
    if counts is not None:
        averaged = averaged.list_only(counts)
    settled = _settled(shares, order, first, averaged.logprob_error + _FLOAT32)
    return dataclasses.replace(averaged, unsettled=~settled[:, :k])


def _same_labels(topk: TopK, other: TopK) -> bool:
    """Whether two teachers' signals are of the same labels, or both of none."""
    if topk.labels is None or other.labels is None:
        return topk.labels is other.labels
    return torch.equal(topk.labels, other.labels)


def _is_label(classes: Int[Tensor, "B U"], topk: TopK) -> Bool[Tensor, "B U"]:
    """Which classes are their row's label; none without labels."""
    return torch.zeros_like(classes, dtype=torch.bool) if topk.labels is None else classes == topk.labels[:, None]


def _mean_label_logprob(topks: Sequence[TopK]) -> Float[Tensor, "B"] | None:
    held = [topk.label_logprob.double().exp() for topk in topks if topk.label_logprob is not None]
    return _log(torch.stack(held).mean(0)).to(topks[0].logprobs.dtype) if held else None


def common_temperatures(held: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The temperatures that all teachers hold, in the first one's order."""
    return tuple(t for t in held[0] if all(t in temperatures for temperatures in held))


class _Shares(NamedTuple):
    """Each row's classes that some teacher lists, ascending, then columns that stand for none.

    Attributes:
        classes: int64 [B, U].
        is_class: bool [B, U], False for the columns that stand for none.
        mean: float64 [B, U], the mean over the teachers of what they list of a class, 0 where they list nothing.
        missing: float64 [B, U], the most that could be added to it by the teachers that do not list the class.
        rank: float64 [B, U], the mean of its ranks, counted from the first that is not listed, which is 0, down.
        unlisted: float64 [B, 1], the most that a class which no teacher lists could have.
    """

    classes: Int[Tensor, "B U"]
    is_class: Bool[Tensor, "B U"]
    mean: Float64[Tensor, "B U"]
    missing: Float64[Tensor, "B U"]
    rank: Float64[Tensor, "B U"]
    unlisted: Float64[Tensor, "B 1"]


def _known_shares(topks: Sequence[TopK]) -> _Shares:
    listed: list[tuple[Tensor, ...]] = []
    mosts: list[Tensor] = []
    for topk in topks:
        probability = topk.logprobs.double().exp()  # padding adds nothing to the class that it repeats
        # Whatever is not listed has no more than the last class that is, nor than the whole tail.
        most = torch.minimum(topk.last_logprobs.double().exp(), topk.tail_at(1.0).double().exp()[:, None])
        mosts.append(most)
        listed.append((topk.classes, probability, *_of_listed(topk, most)))
        if topk.labels is not None and topk.label_logprob is not None:
            outside = ~_is_label(topk.classes, topk).any(dim=1, keepdim=True)
            of_label = topk.label_logprob.double().exp()[:, None] * outside
            listed.append((topk.labels[:, None], of_label, most * outside, torch.zeros_like(of_label)))
    unlisted = torch.stack(mosts).mean(0)
    classes, probability, most, ahead = (torch.cat(columns, dim=1) for columns in zip(*listed, strict=True))
    classes, order = classes.sort(dim=1, stable=True)
    place = torch.cat([torch.zeros_like(classes[:, :1]), (classes[:, 1:] != classes[:, :-1]).cumsum(1)], dim=1)

    def mean(values: Float64[Tensor, "B U"]) -> Float64[Tensor, "B U"]:
        return torch.zeros_like(values).scatter_add_(1, place, values.gather(1, order)) / len(topks)

    return _Shares(
        classes=torch.zeros_like(classes).scatter_(1, place, classes),
        is_class=torch.arange(classes.shape[1], device=classes.device) <= place[:, -1:],
        mean=mean(probability),
        missing=(unlisted - mean(most)).clamp_(min=0),
        rank=-mean(ahead),
        unlisted=unlisted,
    )


def _of_listed(topk: TopK, most: Float64[Tensor, "B 1"]) -> tuple[Float64[Tensor, "B k"], Float64[Tensor, "B k"]]:
    """For each class that a teacher lists: `most`, and the classes from it to the last; 0 for padding."""
    if topk.counts is None:
        ahead = torch.arange(topk.k, 0, -1, dtype=torch.float64, device=most.device)
        return most.expand(-1, topk.k), ahead.expand_as(topk.classes)
    return most * topk.listed, topk.listed.double().flip(1).cumsum(1).flip(1)


def _ranking(shares: _Shares) -> Int[Tensor, "B U"]:
    """Columns by falling mean; where rounding made two alike by the teachers' ranks, then the lower class first."""
    by_rank = shares.rank.argsort(dim=1, stable=True)
    return by_rank.gather(1, shares.mean.gather(1, by_rank).argsort(dim=1, descending=True, stable=True))


def _settled(shares: _Shares, order: Int[Tensor, "B U"], topk: TopK, error: float) -> Bool[Tensor, "B U"]:
    """Whether a class's predecessors are certain: all others' shares, wherever they lie, are above its own or below.

    Args:
        shares: what is known.
        order: the columns of `shares`, most probable first; so is the result.
        topk: whose labels' classes come first whatever their shares, and are compared with none.
        error: the largest rounding of a log-probability, nats.
    """
    rounding = math.exp(error)
    is_label = _is_label(shares.classes, topk) & shares.is_class
    ignored = is_label | ~shares.is_class
    low = (shares.mean / rounding).masked_fill(ignored, torch.inf).gather(1, order)
    high = ((shares.mean + shares.missing) * rounding).masked_fill(ignored, -torch.inf).gather(1, order)
    behind = torch.cat([high[:, 1:], shares.unlisted * rounding], dim=1).flip(1).cummax(1).values.flip(1)
    before = torch.cat([torch.full_like(low[:, :1], torch.inf), low[:, :-1]], dim=1).cummin(1).values
    return ((low > behind) & (high < before)) | is_label.gather(1, order)


def _log(probability: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
    return probability.log().clamp(min=_DEEPEST)
