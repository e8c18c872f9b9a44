"""DIST: maximise the Pearson correlation with the teacher, over classes per sample and over samples per class."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.distributed
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pld.losses.arguments import reduce_loss
from pld.losses.kd import alpha_times_nll, label_term
from pld.losses.module import TeacherLossModule, settings_of
from pld.losses.plackett_luce.rows import wide_dtype
from pld.losses.registry import loss
from pld.losses.settings import NOT_NEGATIVE, Alpha, Beta, Reduction, Temperature
from pld.losses.teacher import dense_logprobs
from pld.signals import MixedLabels, TopK

# A vector is constant where its spread is below this share of its length: float64's rounding, and no float32 logit's.
_CONSTANT = 1e-12


@loss("dist", without_label="alpha", mixed_labels=True, label_part=alpha_times_nll)
def dist_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels | None,
    weight: Float[Tensor, "B"] | None = None,
    *,
    alpha: Alpha = 1.0,
    beta: Beta = 2.0,
    gamma: Annotated[float, NOT_NEGATIVE, "of {losses}"] = 2.0,
    temperature: Temperature = 1.0,
    global_batch: Annotated[bool, "of {losses}; correlate columns over all processes' batches"] = False,
    approximate: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """DIST (Huang et al. 2022): alpha * CE + beta * T^2 * (1 - mean row Pearson) + gamma * T^2 * (1 - mean column one).

    Rows are samples and columns classes of the two softmaxes at T; Pearson is a.b / (|a| |b| + 1e-8) of the centred
    vectors, worked out in float64. Where the student's vector is constant it is 0 and so is its gradient: the
    formula's own, b / 1e-8, would be a step of no use, and is beyond float16. So one sample has no column term to
    learn from, and a student whose classifier starts at zero begins with the cross entropy alone. The column term
    depends on the batch at hand. DIST needs a dense vector: from a TopK with k < C the tail's mass is spread evenly
    over its classes. Of a mixed image CE weighs both labels by their shares; the two relations know no labels.

    Args:
        student_logits: [B, C].
        teacher: a TopK of these samples, or dense logits [B, C].
        labels: int64 [B], or the MixedLabels of mixed images; None for images without labels, with alpha = 0.
        weight: [B], what each sample counts for in the cross entropy and the rows' term.
        alpha: weight of the cross entropy, 0 or more.
        beta: weight of the rows' (inter-class) term, 0 or more.
        gamma: weight of the columns' (intra-class) term, 0 or more.
        temperature: of teacher and student, above 0. Above 1 a TopK with k < C is refused unless `approximate`.
        global_batch: take the columns over the batches of all processes of the default group, which must be of one
            size and all call this, forward and backward. Each process's loss is its own rows' terms and the common
            column term; what reaches its logits is the gradient of the sum of all processes' losses. So averaging
            losses and gradients over processes, as DDP does, gives those of one process with the whole batch, where
            there is no `weight` (a weighted mean is each process's own); nothing is to be scaled by hand.
        approximate: permit what a truncated TopK cannot support.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B], each with the batch's
            column term.

    Raises:
        SignalError: an argument has a wrong shape or dtype, a label or a share is out of range, a label is not the
            TopK's, a logit, a weight or a value of the TopK is not finite, or the TopK cannot support the temperature.
        ConfigError: a setting has a value that is not one of its own.
    """
    student = _softmax(student_logits, temperature)
    target = _target(teacher, student_logits.shape[1], temperature)
    across = global_batch and torch.distributed.is_available() and torch.distributed.is_initialized()
    rows: Tensor = 1 - _Pearson.apply(student, target, 1, False)
    columns: Tensor = 1 - _Pearson.apply(student, target, 0, across).mean()
    relations = temperature**2 * (beta * rows + gamma * columns)
    per_sample = label_term(alpha, student_logits, labels) + relations.to(wide_dtype(student_logits))
    return reduce_loss(per_sample, weight, reduction)


class DISTLoss(TeacherLossModule):
    """`dist_loss` as a module."""

    rows_are_apart = False

    @settings_of(dist_loss)
    def __init__(self) -> None: ...


def _target(teacher: TopK | Tensor, num_classes: int, temperature: float) -> Float[Tensor, "B C"]:
    """The teacher's softmax at the temperature, in float64."""
    if isinstance(teacher, Tensor):
        return _softmax(teacher.detach(), temperature)
    return dense_logprobs(teacher, num_classes, temperature=temperature, approximate=True).double().exp()


def _softmax(logits: Float[Tensor, "B C"], temperature: float) -> Float[Tensor, "B C"]:
    """In float64; at T = 1 without the buffers that a division costs."""
    wide = logits.double()
    return torch.softmax(wide if temperature == 1 else wide / temperature, dim=1)


class _Pearson(torch.autograd.Function):
    """Pearson correlation r of a's and b's vectors along a dimension, continued over all processes where `across`.

        r = a.b / D,   D = |a| |b| + 1e-8,   d r / d a = b / D - r |b| / D * a / |a|     (a, b centred)

    In float64: two samples correlate by +-1 in every column, the terms of the gradient cancel, and float32 would leave
    their rounding over |a|. In closed form, which spares the many float64 buffers that autograd would keep.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Float[Tensor, "B C"], b: Float[Tensor, "B C"], dim: int, across: bool
    ) -> Float[Tensor, "vectors"]:
        count = a.shape[dim] * (torch.distributed.get_world_size() if across else 1)
        means = _totals(across, a.sum(dim=dim), b.sum(dim=dim)) / count
        centred_a, centred_b = (x - mean.unsqueeze(dim) for x, mean in zip((a, b), means, strict=True))
        dot = (centred_a * centred_b).sum(dim=dim)
        square_a, square_b = (x.square_().sum(dim=dim) for x in (centred_a, centred_b))
        dot, square_a, square_b = _totals(across, dot, square_a, square_b)
        norm_a, norm_b = square_a.sqrt(), square_b.sqrt()
        constant = norm_a <= _CONSTANT * math.sqrt(count) * means[0].abs()
        pearson = torch.where(constant, 0.0, dot / (norm_a * norm_b + 1e-8))
        ctx.save_for_backward(a, b, means, pearson, norm_a, norm_b, constant)
        ctx.dim, ctx.across = dim, across
        return pearson

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, "vectors"]) -> tuple[Tensor, None, None, None]:
        a, b, (mean_a, mean_b), pearson, norm_a, norm_b, constant = ctx.saved_tensors
        # Each process's loss holds the same correlation, so its gradient is the sum of what all of them ask for.
        (grad,) = _totals(ctx.across, grad)
        of_b = torch.where(constant, 0.0, grad / (norm_a * norm_b + 1e-8))
        of_a = torch.where(constant, 0.0, of_b * pearson * norm_b / norm_a)
        of_b, of_a, shift = (x.unsqueeze(ctx.dim) for x in (of_b, of_a, of_b * mean_b - of_a * mean_a))
        return (b * of_b).addcmul_(a, of_a, value=-1).sub_(shift), None, None, None


def _totals(across: bool, *sums: Float[Tensor, "vectors"]) -> Float[Tensor, "sums vectors"]:
    """This process's sums, or where `across` those of the default group."""
    stacked = torch.stack(sums)
    if across:
        torch.distributed.all_reduce(stacked)
    return stacked
