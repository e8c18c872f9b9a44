"""The "triton" backend of the Plackett-Luce loss: triton is imported when it is first asked for, not before."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pld.errors import ConfigError
from pld.extras import install_hint


def fused_nll(
    student_logits: Float[Tensor, "B C"],
    index: Int[Tensor, "B R"],
    valid: Bool[Tensor, "B R"],
    weight: Float[Tensor, "B R"],
    rest_weight: Float[Tensor, "B"] | None,
) -> Float[Tensor, "B"]:
    """`nll.unchecked_nll` by one kernel that reads each row of the logits and writes its gradient.

    Raises:
        ConfigError: triton is not installed, the logits are not on a GPU, or R is more than the kernel takes.
    """
    most = _rows().MOST_RANKS
    if index.shape[1] > most:
        raise ConfigError(
            f'backend = "triton": found {index.shape[1]} ranks, k and the label, wanted at most {most}; use a smaller '
            'k, or backend="torch"'
        )
    if not (student_logits.is_cuda or _rows().INTERPRETED):
        raise ConfigError(
            f'backend = "triton": found tensors on {student_logits.device}, wanted a GPU; use backend="torch" (or, to '
            "try the kernel slowly, set TRITON_INTERPRET=1 before Python starts)"
        )
    loss: Tensor = _Fused.apply(student_logits, index, valid, weight, rest_weight)
    return loss


class _Fused(torch.autograd.Function):
    """Forward and gradient in one go; the backward pass only scales the gradient."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, index: Tensor, valid: Tensor, weight: Tensor, rest_weight: Tensor | None
    ) -> Tensor:
        loss: Tensor
        loss, ctx.grad = _rows().plackett_luce_rows(logits, index, valid, weight, rest_weight)
        ctx.save_for_backward(logits, index, valid, weight, rest_weight)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None, None, None, None]:
        # The first pass takes the stored gradient and scales it in place; a second pass over a retained graph, rare,
        # works it out again rather than making every pass pay for a copy.
        grad, ctx.grad = ctx.grad, None
        if grad is None:
            _, grad = _rows().plackett_luce_rows(*ctx.saved_tensors)
        # A compiled graph does not see the hand-over, and would scale what a second pass reads again.
        upstream = grad_loss[:, None]
        grad = grad * upstream if torch.compiler.is_compiling() else grad.mul_(upstream)
        return grad.to(ctx.saved_tensors[0].dtype), None, None, None, None


def _rows() -> ModuleType:
    """The module with the kernel."""
    try:
        from pld.losses.plackett_luce import triton_rows
    except ImportError as error:
        raise ConfigError(
            f'backend = "triton": triton is not installed; {install_hint("triton")} (Linux), or use backend="torch"'
        ) from error
    return triton_rows
