"""The Plackett-Luce negative log-likelihood with one weight per rank, the basis of every ranking loss.

    loss = sum_r weight_r * ( lse_r - s[order_r] ),   lse_r = logsumexp over the classes not placed before r

    d loss / d s_j = e^{s_j} * sum of weight_r * e^{-lse_r} over the ranks r at which j is not placed yet
                     - weight of j's own rank

An unlisted class is never placed: its sum runs over all ranks. So the gradient of the unlisted classes is their
exponentials times one number per row, and only the R listed classes need a scan. Nothing sorts or scans over C.

The work over C happens in one buffer: the softmax, with the listed classes set to zero (left out, not subtracted: a
sum minus its largest terms has no digits left). It is kept for the backward pass, which scales it in place and returns
it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pld.errors import ConfigError
from pld.extras import install_hint
from pld.losses.arguments import check_finite, check_order, check_student, check_vector, values_are_free
from pld.losses.plackett_luce.rows import rest_exponentials, rows_by_sums, rows_in_log_space, wide_dtype
from pld.losses.settings import Backend, check_settings


@check_settings
def plackett_luce_nll(
    student_logits: Float[Tensor, "B C"],
    order: Int[Tensor, "B R"],
    weight: Float[Tensor, "B R"],
    *,
    rest_weight: Float[Tensor, "B"] | None = None,
    backend: Backend = "torch",
) -> Float[Tensor, "B"]:
    """Weighted Plackett-Luce negative log-likelihood of a full or partial order, per sample.

    Position-aware Plackett-Luce likelihood (arXiv:2506.12542), of which cross entropy, ListMLE, p-ListMLE and PLD are
    choices of order and weight. Classes that `order` does not list stay in every denominator, so each listed term is
    exact.

    Args:
        student_logits: [B, C], finite. Half types are worked on in float32 whatever autocast says, float64 is kept.
        order: int64 [B, R], classes by rank, none repeated within a row; -1 stands for no class, except in the first
            column.
        weight: [B, R], finite and not negative; ignored where order is -1. A constant: no gradient flows to it.
        rest_weight: [B], or None for zero: adds rest_weight * (logsumexp - mean) over the classes not listed, as one
            group whose members are exchangeable; zero where every class is listed.
        backend: "torch", or "triton": one kernel for a GPU, see `pld_loss`.

    Returns:
        [B], float64 for float64 logits, else float32. Finite for any finite logits. Differentiable once: the gradient
        is in closed form, and asking for a second one raises RuntimeError.

    Raises:
        SignalError: an argument has a wrong shape or dtype, a class is out of range, or a logit or a weight is not
            finite.
        ConfigError: the backend is unknown, or not available.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[1.0, 0.0, -1.0]])
        >>> nll = plackett_luce_nll(scores, torch.tensor([[0]]), torch.tensor([[1.0]]))  # one rank: cross entropy
        >>> print(f"{nll.item():.4f} {torch.nn.functional.cross_entropy(scores, torch.tensor([0])).item():.4f}")
        0.4076 0.4076
    """
    check_student(student_logits)
    check_order(order, weight, student_logits)
    if rest_weight is not None:
        check_vector("rest_weight", rest_weight, student_logits)
        check_finite("rest_weight", rest_weight)
    valid = order >= 0
    index = torch.where(valid, order, order[:, :1])
    weight = torch.where(valid, weight, 0.0)
    check_finite("weight", weight)
    return unchecked_nll(student_logits, index, valid, weight, rest_weight, backend)


def unchecked_nll(
    student_logits: Float[Tensor, "B C"],
    index: Int[Tensor, "B R"],
    valid: Bool[Tensor, "B R"],
    weight: Float[Tensor, "B R"],
    rest_weight: Float[Tensor, "B"] | None,
    backend: Backend = "torch",
) -> Float[Tensor, "B"]:
    """`plackett_luce_nll` for callers that have checked the arguments and know which entries of the order count.

    Args:
        student_logits: [B, C].
        index: int64 [B, R], classes by rank.
        valid: [B, R], False where the entry does not count; it must then repeat a class of the row that does.
        weight: [B, R], 0 where the entry is not valid.
        rest_weight: as for `plackett_luce_nll`.
        backend: as for `plackett_luce_nll`.
    """
    weight, rest_weight = weight.detach(), None if rest_weight is None else rest_weight.detach()
    if backend == "triton":
        _check_kernel(student_logits, ranks=index.shape[1])
    function = _FusedPlackettLuce if backend == "triton" else _PlackettLuce
    loss: Tensor = function.apply(student_logits, index, valid, weight, rest_weight)
    return loss


def _check_kernel(student_logits: Tensor, *, ranks: int) -> None:
    """Raise ConfigError where triton is not installed, logits are not on a GPU, or ranks are more than it takes."""
    most = _kernel().MOST_RANKS
    if ranks > most:
        raise ConfigError(
            f'backend = "triton": found {ranks} ranks, k and the label, wanted at most {most}; use a smaller '
            'k, or backend="torch"'
        )
    if not (student_logits.is_cuda or _kernel().INTERPRETED):
        raise ConfigError(
            f'backend = "triton": found tensors on {student_logits.device}, wanted a GPU; use backend="torch" (or, to '
            "try the kernel slowly, set TRITON_INTERPRET=1 before Python starts)"
        )


class _PlackettLuce(torch.autograd.Function):
    """The "torch" backend: forward and closed-form backward."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, index: Tensor, valid: Tensor, weight: Tensor, rest_weight: Tensor | None
    ) -> Tensor:
        weight = weight.to(wide_dtype(logits))
        rows = None
        # The choice looks at values; on an accelerator or in a compiled graph, log space costs less than looking.
        if values_are_free(logits) and rest_weight is None:
            rows = rows_by_sums(logits, index, valid, weight)
        if rows is None:
            rows = rows_in_log_space(logits, index, valid, weight, rest_weight)
        ctx.save_for_backward(logits, index, rows.top, rows.grad_listed, rows.rest_scale, rows.shift)
        ctx.rest = None if torch.compiler.is_compiling() else rows.rest
        return rows.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, index, top, grad_listed, rest_scale, shift = ctx.saved_tensors
        # The first pass takes the buffer and hands it on as the gradient; a second pass over a retained graph, rare,
        # computes it again rather than making every pass pay for a copy.
        rest, ctx.rest = ctx.rest, None
        if rest is None:
            rest = rest_exponentials(logits, index, top)
        upstream = grad_loss[:, None]
        grad = rest.mul_(rest_scale * upstream)
        if shift is not None:
            grad.sub_(shift * upstream)
        grad.scatter_add_(1, index, grad_listed * upstream)
        return grad.to(logits.dtype), None, None, None, None


class _FusedPlackettLuce(torch.autograd.Function):
    """The "triton" backend: forward and gradient by one kernel; the backward pass only scales the gradient."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, index: Tensor, valid: Tensor, weight: Tensor, rest_weight: Tensor | None
    ) -> Tensor:
        loss: Tensor
        loss, ctx.grad = _kernel().plackett_luce_rows(logits, index, valid, weight, rest_weight)
        ctx.save_for_backward(logits, index, valid, weight, rest_weight)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None, None, None, None]:
        # The first pass takes the stored gradient and scales it in place; a second pass over a retained graph, rare,
        # works it out again rather than making every pass pay for a copy.
        grad, ctx.grad = ctx.grad, None
        if grad is None:
            _, grad = _kernel().plackett_luce_rows(*ctx.saved_tensors)
        # A compiled graph does not see the hand-over, and would scale what a second pass reads again.
        upstream = grad_loss[:, None]
        grad = grad * upstream if torch.compiler.is_compiling() else grad.mul_(upstream)
        return grad.to(ctx.saved_tensors[0].dtype), None, None, None, None


def _kernel() -> ModuleType:
    """The module with the kernel; triton is imported when it is first asked for, not before."""
    try:
        from pld.losses.plackett_luce import triton_rows
    except ImportError as error:
        raise ConfigError(
            f'backend = "triton": triton is not installed; {install_hint("triton")} (Linux), or use backend="torch"'
        ) from error
    return triton_rows
