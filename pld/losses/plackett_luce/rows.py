"""The part of the Plackett-Luce loss that works over all C classes, in one buffer; `listed` scans the ranks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pld.losses.plackett_luce.listed import terms_by_sums, terms_in_log_space


class Row(NamedTuple):
    """Loss and gradient of a batch of rows.

    Attributes:
        loss: [B].
        grad_listed: [B, R], gradient for each listed class; 0 where the entry does not count.
        rest_scale: [B, 1], what an entry of `rest` is multiplied by to give its class's gradient.
        rest: [B, C], exp(logit - top), 0 for the listed classes.
        top: [B, 1]; None where `rest` is a softmax with its listed classes set to 0.
    """

    loss: Float[Tensor, "B"]
    grad_listed: Float[Tensor, "B R"]
    rest_scale: Float[Tensor, "B 1"]
    rest: Float[Tensor, "B C"]
    top: Float[Tensor, "B 1"] | None


def wide_dtype(logits: Tensor) -> torch.dtype:
    """What a loss is worked out in: float64 for float64 logits, else float32."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def rest_exponentials(
    logits: Float[Tensor, "B C"], index: Int[Tensor, "B R"], top: Float[Tensor, "B 1"] | None
) -> Float[Tensor, "B C"]:
    """exp(logit - top), or the softmax where top is None, in a new tensor; 0 for the classes in `index`."""
    return _leave_out(_exponentials(logits, top), index)


def row_by_sums(
    logits: Float[Tensor, "B C"], index: Int[Tensor, "B R"], held: Bool[Tensor, "B R"], weight: Float[Tensor, "B R"]
) -> Row | None:
    """The usual case, from plain sums of probabilities; None where the logits spread too far for that."""
    softmax = _exponentials(logits, None)
    prob = softmax.gather(1, index)
    rest = _leave_out(softmax, index)
    terms = terms_by_sums(prob, held, weight, rest.sum(dim=1, keepdim=True))
    return None if terms is None else Row(*terms, rest=rest, top=None)


def row_in_log_space(
    logits: Float[Tensor, "B C"],
    index: Int[Tensor, "B R"],
    held: Bool[Tensor, "B R"],
    weight: Float[Tensor, "B R"],
    rest_weight: Float[Tensor, "B"] | None,
) -> tuple[Row, Float[Tensor, "B 1"] | None]:
    """Any finite logits; with a rest_weight, also what is subtracted from every unlisted class's gradient."""
    outside = logits.scatter(1, index, -torch.inf).amax(dim=1, keepdim=True).to(wide_dtype(logits))
    # Where every class is listed there is no largest one outside.
    top = outside.clamp_(min=torch.finfo(outside.dtype).min)
    rest = rest_exponentials(logits, index, top)
    rest_sum = rest.sum(dim=1, keepdim=True)
    terms = terms_in_log_space(logits.gather(1, index).to(rest.dtype), held, weight, top, rest_sum)
    row = Row(*terms, rest=rest, top=top)
    if rest_weight is None:
        return row, None
    return _with_rest_term(row, logits, index, held, rest_weight[:, None].to(rest.dtype), rest_sum)


def _with_rest_term(
    row: Row,
    logits: Float[Tensor, "B C"],
    index: Int[Tensor, "B R"],
    held: Bool[Tensor, "B R"],
    rest_weight: Float[Tensor, "B 1"],
    rest_sum: Float[Tensor, "B 1"],
) -> tuple[Row, Float[Tensor, "B 1"]]:
    """Add rest_weight * (logsumexp - mean) over the unlisted classes, nothing where there are none."""
    assert row.top is not None  # log space has one
    num_rest = logits.shape[1] - held.sum(dim=1, keepdim=True)
    some = num_rest > 0
    shift = torch.where(some, rest_weight / num_rest.clamp(min=1), 0.0)
    mean = logits.to(shift.dtype).scatter(1, index, 0.0).sum(dim=1, keepdim=True) / num_rest.clamp(min=1)
    group = torch.where(some, row.top + rest_sum.clamp(min=1).log() - mean, 0.0)
    with_term = row._replace(
        loss=row.loss + (rest_weight * group)[:, 0],
        # Every class's gradient is shifted; the listed ones, which the term does not touch, are shifted back.
        grad_listed=row.grad_listed + shift * held,
        rest_scale=row.rest_scale + torch.where(some, rest_weight / rest_sum.clamp(min=1), 0.0),
    )
    return with_term, shift


def _exponentials(logits: Float[Tensor, "B C"], top: Float[Tensor, "B 1"] | None) -> Float[Tensor, "B C"]:
    return torch.softmax(logits, dim=1, dtype=wide_dtype(logits)) if top is None else (logits - top).exp_()


def _leave_out(exponentials: Float[Tensor, "B C"], index: Int[Tensor, "B R"]) -> Float[Tensor, "B C"]:
    """The exponentials with those of the classes in `index` set to zero, in place: left out, not subtracted."""
    # A tensor of zeros scatters twice as fast as the number zero.
    return exponentials.scatter_(1, index, exponentials.new_zeros(index.shape))
