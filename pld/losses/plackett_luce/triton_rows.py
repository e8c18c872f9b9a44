"""The Plackett-Luce loss and its gradient in Triton: one program a row, no sort and no scan over C.

The mathematics is `nll`'s; docs/decisions/0007 says how the work is laid out. Importing this file needs triton.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pld.losses.plackett_luce.rows import wide_dtype

MOST_RANKS = 4096
"""How many ranks a row may list, -1 and repeated labels included."""

# Classes read at a time, as words of 32: what a program's registers hold with room to spare.
_MOST_WORDS = 128
# Stands for minus infinity, which cannot be subtracted from itself: float32's lowest.
_LOWEST = tl.constexpr(-3.4028234663852886e38)


@triton.jit
@no_type_check
def _join(top, total, other_top, other_total):
    """Add two sums, each held as total * exp(top), so that nothing overflows."""
    high = tl.maximum(top, other_top)
    return high, total * tl.exp(top - high) + other_total * tl.exp(other_top - high)


@triton.jit
@no_type_check
def _listed_bits(index, valid, start, R: tl.constexpr, RANKS: tl.constexpr, WORDS: tl.constexpr):
    """int32 [WORDS], of whose word w bit b is set where class start + 32 w + b is listed.

    Comparing the ranks with words and not with classes makes this 32 times less work, and less than reading the row.
    """
    CHUNK: tl.constexpr = 64 if RANKS > 64 else RANKS
    word = tl.arange(0, WORDS)
    bits = tl.zeros([WORDS], tl.int32)
    for first in range(0, RANKS, CHUNK):
        rank = first + tl.arange(0, CHUNK)
        listed = tl.load(valid + rank, mask=rank < R, other=0).to(tl.int1)
        place = tl.load(index + rank, mask=rank < R, other=0).to(tl.int32) - start
        bit = tl.where(listed, 1 << (place & 31), 0)
        bits += tl.sum(tl.where((place >> 5)[None, :] == word[:, None], bit[None, :], 0), axis=1)
    return bits


@triton.jit
@no_type_check
def _rest(logits, index, valid, first, C: tl.constexpr, R: tl.constexpr, RANKS: tl.constexpr, WORDS: tl.constexpr):
    """Over the classes not listed: the largest logit, the sum of exp(logit - it), and the sum of logit - first.

    Each of a program's places in a block keeps its own running values, so that blocks wait for nothing but their bits.
    """
    wide = first.dtype
    bit = tl.arange(0, 32)[None, :]
    within = tl.arange(0, WORDS)[:, None] * 32 + bit
    top = tl.full([WORDS, 32], _LOWEST, wide)
    total = tl.zeros([WORDS, 32], wide)
    away = tl.zeros([WORDS, 32], wide)
    for start in range(0, C, WORDS * 32):
        at = start + within
        bits = _listed_bits(index, valid, start, R, RANKS, WORDS)
        rest = (at < C) & (((bits[:, None] >> bit) & 1) == 0)
        x = tl.load(logits + at, mask=at < C, other=0.0).to(wide)
        high = tl.maximum(top, tl.where(rest, x, _LOWEST))
        total = total * tl.exp(top - high) + tl.where(rest, tl.exp(tl.minimum(x - high, 0.0)), 0.0)
        away += tl.where(rest, x - first, 0.0)
        top = high
    rest_top = tl.max(top)
    return rest_top, tl.sum(total * tl.exp(top - rest_top)), tl.sum(away)


@triton.jit
@no_type_check
def _ranks(score, w, listed, rest_top, rest_sum, RANKS: tl.constexpr):
    """The listed terms: the loss, the gradient by rank, and what exp(logit - rest_top) of any other class weighs.

    Every exponent is a logit minus one at least as large, so float32 does for any finite logits.
    """
    top, total = tl.associative_scan((score, listed.to(score.dtype)), 0, _join, reverse=True)
    top, total = _join(top, total, rest_top, rest_sum)
    total = tl.where(listed, total, 1.0)
    nll = tl.sum(tl.where(listed, w * (tl.log(total) + (top - score)), 0.0))
    # Tops fall along the ranks, so the sum of w / (total exp(top)) is largest in its last term's exponent: -top.
    _, share = tl.associative_scan((-top, w / total), 0, _join)
    last = tl.arange(0, RANKS) == RANKS - 1
    rest_share = tl.sum(tl.where(last, share * tl.exp(rest_top - top), 0.0))
    return nll, share * tl.exp(score - top) - w, rest_share


@triton.jit
@no_type_check
def _row(
    logits,
    index,
    valid,
    weight,
    rest_weight,
    loss,
    grad,
    C: tl.constexpr,
    R: tl.constexpr,
    RANKS: tl.constexpr,
    WORDS: tl.constexpr,
    UNIFORM: tl.constexpr,
):
    """One row of the loss and of the gradient, each written once."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * C
    grad += row * C
    index += row * R
    valid += row * R
    wide = loss.dtype.element_ty

    rank = tl.arange(0, RANKS)
    listed = tl.load(valid + rank, mask=rank < R, other=0).to(tl.int1)
    place = tl.load(index + rank, mask=rank < R, other=0)
    inside = (place >= 0) & (place < C)
    num_outside = tl.sum((listed & (inside == 0)).to(tl.int32))
    listed &= inside
    score = tl.load(logits + place, mask=listed, other=0.0).to(wide)
    first = tl.sum(tl.where(rank == 0, score, 0.0))
    score = tl.where(listed, score, _LOWEST)
    w = tl.load(weight + row * R + rank, mask=listed, other=0.0).to(wide)

    rest_top, rest_sum, away = _rest(logits, index, valid, first, C, R, RANKS, WORDS)
    nll, grad_listed, rest_share = _ranks(score, w, listed, rest_top, rest_sum, RANKS)
    shift = 0.0
    if UNIFORM:
        num_rest = C - tl.sum(listed.to(tl.int32))
        u = tl.where(num_rest > 0, tl.load(rest_weight + row).to(wide), 0.0)
        some = tl.maximum(num_rest, 1).to(wide)
        rest_sum = tl.maximum(rest_sum, 1.0)
        nll += u * tl.where(num_rest > 0, tl.log(rest_sum) + (rest_top - first) - away / some, 0.0)
        rest_share += u / rest_sum
        shift = u / some

    within = tl.arange(0, WORDS)[:, None] * 32 + tl.arange(0, 32)[None, :]
    for start in range(0, C, WORDS * 32):
        at = start + within
        # Where one block holds the row, this is the first read's value, still in registers.
        x = tl.load(logits + at, mask=at < C, other=0.0).to(wide)
        tl.store(grad + at, rest_share * tl.exp(tl.minimum(x - rest_top, 0.0)) - shift, mask=at < C)
    # What went to the listed classes there is written over: whole vectors, then single values, in this order.
    tl.debug_barrier()
    tl.store(grad + place, grad_listed, mask=listed)
    # Last, because a store before the second read would make the compiler read again.
    tl.store(loss + row, tl.where(num_outside > 0, float("nan"), nll))


INTERPRETED = not isinstance(_row, triton.JITFunction)
"""Whether TRITON_INTERPRET=1 was set when this was imported: the kernel then runs in NumPy, for CPU tensors too."""


# The schema is spelt out because shapes in annotations are more than torch reads.
@torch.library.custom_op(
    "pld::plackett_luce_rows",
    mutates_args=(),
    schema="(Tensor logits, Tensor index, Tensor valid, Tensor weight, Tensor? rest_weight) -> (Tensor, Tensor)",
)
def plackett_luce_rows(
    logits: Float[Tensor, "B C"],
    index: Int[Tensor, "B R"],
    valid: Bool[Tensor, "B R"],
    weight: Float[Tensor, "B R"],
    rest_weight: Float[Tensor, "B"] | None,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B C"]]:
    """The loss [B] and its gradient [B, C], in one pass.

    A custom operator, opaque to torch.compile. Arguments as for `nll.unchecked_nll`, on one device, with
    R at most MOST_RANKS. Listing a class that is out of range gives its row a nan loss.

    Returns:
        The loss in the dtype it is worked out in, float64 for float64 logits and else float32; the gradient in the
        logits' dtype, but float32 for float16, in which a small gradient that is still to be scaled would be lost.
    """
    loss, grad = _outputs(logits, index, valid, weight, rest_weight)
    rows, classes = logits.shape
    ranks = triton.next_power_of_2(index.shape[1])
    words = min(triton.next_power_of_2(triton.cdiv(classes, 32)), _MOST_WORDS)
    with torch.cuda.device_of(logits):
        _row[(rows,)](
            logits.contiguous(),
            index.contiguous(),
            valid.contiguous(),
            weight.contiguous(),
            None if rest_weight is None else rest_weight.contiguous(),
            loss,
            grad,
            C=classes,
            R=index.shape[1],
            RANKS=max(ranks, 16),
            WORDS=words,
            UNIFORM=rest_weight is not None,
            num_warps=4 if max(ranks, words * 32) <= 1024 else 8,
        )
    return loss, grad


@plackett_luce_rows.register_fake
def _outputs(
    logits: Float[Tensor, "B C"],
    index: Int[Tensor, "B R"],
    valid: Bool[Tensor, "B R"],
    weight: Float[Tensor, "B R"],
    rest_weight: Float[Tensor, "B"] | None,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B C"]]:
    """What the operator returns, not filled in."""
    stored = torch.float32 if logits.dtype == torch.float16 else logits.dtype
    return logits.new_empty(logits.shape[0], dtype=wide_dtype(logits)), logits.new_empty(logits.shape, dtype=stored)
