"""Loss and gradient of a batch of rows: the work over all C classes in one buffer, that over R ranks in a scan."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# The smallest probability of a listed class that plain sums handle: float32 holds it, and its inverse, with all digits.
# Students in training stay far above; log space takes over below.
_SMALLEST = 1e-25


class Rows(NamedTuple):
    """Loss and gradient of a batch of rows.

    Attributes:
        loss: [B].
        grad_listed: [B, R], gradient for each listed class; 0 where the entry is not valid.
        rest_scale: [B, 1], what an entry of `rest` is multiplied by to give its class's gradient.
        rest: [B, C], exp(logit - top), 0 for the listed classes.
        top: [B, 1]; None where `rest` is a softmax with its listed classes set to 0.
        shift: [B, 1], what is then subtracted from every class's gradient; None for nothing.
    """

    loss: Float[Tensor, "B"]
    grad_listed: Float[Tensor, "B R"]
    rest_scale: Float[Tensor, "B 1"]
    rest: Float[Tensor, "B C"]
    top: Float[Tensor, "B 1"] | None = None
    shift: Float[Tensor, "B 1"] | None = None


def wide_dtype(logits: Tensor) -> torch.dtype:
    """What a loss is worked out in: float64 for float64 logits, else float32."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def rest_exponentials(
    logits: Float[Tensor, "B C"], index: Int[Tensor, "B R"], top: Float[Tensor, "B 1"] | None
) -> Float[Tensor, "B C"]:
    """exp(logit - top), or the softmax where top is None, in a new tensor; 0 for the classes in `index`."""
    return _leave_out(_softmax(logits) if top is None else (logits - top).exp_(), index)


def rows_by_sums(
    logits: Float[Tensor, "B C"], index: Int[Tensor, "B R"], valid: Bool[Tensor, "B R"], weight: Float[Tensor, "B R"]
) -> Rows | None:
    """Compute the rows from plain sums of probabilities, the usual case; None if a sum is too small (or nan)."""
    softmax = _softmax(logits)
    prob = softmax.gather(1, index)
    if not prob.amin().item() > _SMALLEST:  # nan is not above it
        return None
    rest = _leave_out(softmax, index)
    placed = prob.masked_fill(~valid, 0.0)
    # From the last rank to the first: only positive terms are added, so no digits cancel.
    sums = placed.flip(1).cumsum_(dim=1).add_(rest.sum(dim=1, keepdim=True)).flip(1)
    # Where there is no class the sum may be empty, and 0 / 0 would be nan.
    sums.clamp_(min=_SMALLEST)
    share = (weight / sums).cumsum_(dim=1)
    loss = sums.div_(prob).log_().mul_(weight).sum(dim=1)
    return Rows(loss, placed.mul_(share).sub_(weight), share[:, -1:], rest)


def rows_in_log_space(
    logits: Float[Tensor, "B C"],
    index: Int[Tensor, "B R"],
    valid: Bool[Tensor, "B R"],
    weight: Float[Tensor, "B R"],
    rest_weight: Float[Tensor, "B"] | None,
) -> Rows:
    """Compute the rows in log space, for any finite logits; the ranks in float64 if the device supports it."""
    outside = logits.scatter(1, index, -torch.inf).amax(dim=1, keepdim=True).to(wide_dtype(logits))
    # Where every class is listed there is no largest one outside.
    top = outside.clamp_(min=torch.finfo(outside.dtype).min)
    rest = rest_exponentials(logits, index, top)
    rest_sum = rest.sum(dim=1, keepdim=True)
    wide = torch.float32 if logits.device.type == "mps" else torch.float64
    weight, wide_top = weight.to(wide), top.to(wide)
    placed = torch.where(valid, logits.gather(1, index).to(wide), -torch.inf)
    log_rest = wide_top + rest_sum.to(wide).log()
    lse = torch.cat([log_rest, placed.flip(1)], dim=1).logcumsumexp(dim=1)[:, 1:].flip(1)
    # Where there is no class the sum may be empty, and -inf minus -inf would be nan.
    lse = torch.where(valid, lse, 0.0)
    loss = (weight * torch.where(valid, lse - placed, 0.0)).sum(dim=1)
    log_share = (weight.log() - lse).logcumsumexp(dim=1)
    grad_listed = (placed + log_share).exp() - weight
    rest_scale = (wide_top + log_share[:, -1:]).exp()
    loss, grad_listed, rest_scale = (term.to(rest.dtype) for term in (loss, grad_listed, rest_scale))
    rows = Rows(loss, grad_listed, rest_scale, rest, top)
    if rest_weight is None:
        return rows
    return _with_rest_term(rows, logits, index, valid, rest_weight[:, None].to(rest.dtype), rest_sum)


def _with_rest_term(
    rows: Rows,
    logits: Float[Tensor, "B C"],
    index: Int[Tensor, "B R"],
    valid: Bool[Tensor, "B R"],
    rest_weight: Float[Tensor, "B 1"],
    rest_sum: Float[Tensor, "B 1"],
) -> Rows:
    """Add rest_weight * (logsumexp - mean) over the unlisted classes, nothing where there are none."""
    assert rows.top is not None  # log space has one
    num_rest = logits.shape[1] - valid.sum(dim=1, keepdim=True)
    some = num_rest > 0
    shift = torch.where(some, rest_weight / num_rest.clamp(min=1), 0.0)
    mean = logits.to(shift.dtype).scatter(1, index, 0.0).sum(dim=1, keepdim=True) / num_rest.clamp(min=1)
    group = torch.where(some, rows.top + rest_sum.clamp(min=1).log() - mean, 0.0)
    return rows._replace(
        loss=rows.loss + (rest_weight * group)[:, 0],
        # Every class's gradient is shifted; the listed ones, which the term does not touch, are shifted back.
        grad_listed=rows.grad_listed + shift * valid,
        rest_scale=rows.rest_scale + torch.where(some, rest_weight / rest_sum.clamp(min=1), 0.0),
        shift=shift,
    )


def _softmax(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    return torch.softmax(logits, dim=1, dtype=wide_dtype(logits))


def _leave_out(exponentials: Float[Tensor, "B C"], index: Int[Tensor, "B R"]) -> Float[Tensor, "B C"]:
    """The exponentials with those of the classes in `index` set to zero, in place: left out, not subtracted."""
    # A tensor of zeros scatters twice as fast as the number zero.
    return exponentials.scatter_(1, index, exponentials.new_zeros(index.shape))
