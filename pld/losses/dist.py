"""DIST: agree with the teacher up to scale and shift, over the classes of a sample and over the samples of a class."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pld.losses.checks import Reduction, check_labels, check_settings, check_student, check_teacher
from pld.losses.distances import label_nll
from pld.losses.reduction import reduce_loss
from pld.losses.requirements import require_classes, why_all_classes
from pld.losses.teacher import dense_logprobs
from pld.signals import TopK


def dist_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    *,
    alpha: float = 1.0,
    beta: float = 2.0,
    gamma: float = 2.0,
    temperature: float = 1.0,
    global_batch: bool = False,
    approximate: bool = False,
    weight: Float[Tensor, "B"] | None = None,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """DIST (Huang et al. 2022): alpha * CE + beta * T^2 * (1 - mean row Pearson) + gamma * T^2 * (1 - mean column one).

    Rows are samples and columns classes of the two softmaxes at T; Pearson is a.b / (|a| |b| + 1e-8) of the centred
    vectors. The column term depends on the batch at hand. DIST needs a dense vector: from a TopK with k < C the
    tail's mass is spread evenly over its classes.

    Args:
        student_logits: [B, C]; worked on in float32 (float64 stays).
        teacher: a TopK of these samples, or dense logits [B, C].
        labels: int64 [B].
        alpha: weight of the cross entropy, 0 or more.
        beta: weight of the rows' (inter-class) term, 0 or more.
        gamma: weight of the columns' (intra-class) term, 0 or more.
        temperature: of teacher and student, above 0. Above 1 a TopK with k < C is refused unless `approximate`.
        global_batch: take the columns over the batches of all processes of the default group, which must be of one
            size and all call this. Averaging gradients over processes, as DDP does, then gives the gradient of one
            process with the whole batch.
        approximate: permit what a truncated TopK cannot support.
        weight: [B], what each sample counts for in the cross entropy and the rows' term.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B], each with the batch's
            column term.

    Raises:
        SignalError: an argument has a wrong shape or dtype, a label is out of range or not the TopK's, a logit is not
            finite, or the TopK cannot support the temperature.
        ConfigError: a setting has a value that is not one of its own.
    """
    settings = {"alpha": alpha, "beta": beta, "gamma": gamma, "temperature": temperature, "global_batch": global_batch}
    check_settings("dist_loss", **settings, approximate=approximate)
    check_student(student_logits)
    check_labels(labels, student_logits)
    check_teacher(teacher, labels, student_logits)
    wide = student_logits if student_logits.dtype == torch.float64 else student_logits.float()
    student = torch.softmax(wide / temperature, dim=1)
    target = _target(teacher, student_logits.shape[1], temperature, approximate).to(student.dtype)
    rows = 1 - _pearson(student, target, dim=1)
    columns = 1 - _pearson(student, target, dim=0, across=global_batch).mean()
    per_sample = alpha * label_nll(student_logits, labels) + temperature**2 * (beta * rows + gamma * columns)
    return reduce_loss(per_sample, weight, reduction)


def _target(teacher: TopK | Tensor, num_classes: int, temperature: float, approximate: bool) -> Float[Tensor, "B C"]:
    """The teacher's softmax at the temperature."""
    if isinstance(teacher, Tensor):
        wide = teacher.detach() if teacher.dtype == torch.float64 else teacher.detach().float()
        return torch.softmax(wide / temperature, dim=1)
    reason = why_all_classes("dist_loss", temperature)
    require_classes("dist_loss", teacher, num_classes, reason, approximate=approximate)
    return dense_logprobs(teacher, num_classes, temperature=temperature, approximate=True).exp()


def _pearson(
    a: Float[Tensor, "B C"], b: Float[Tensor, "B C"], *, dim: int, across: bool = False
) -> Float[Tensor, "vectors"]:
    """Pearson correlation of a's and b's vectors along `dim`, continued over all processes where `across`."""
    across = across and torch.distributed.is_available() and torch.distributed.is_initialized()
    count = a.shape[dim] * (torch.distributed.get_world_size() if across else 1)

    def total(*terms: Tensor) -> Tensor:
        sums: Tensor = torch.stack([term.sum(dim=dim) for term in terms])
        if across:
            sums = _SumOverProcesses.apply(sums)
        return sums

    # Means first, then products of what is centred: two small reductions, and no digits lost to large means.
    mean_a, mean_b = (total(a, b) / count).unsqueeze(dim + 1)
    a, b = a - mean_a, b - mean_b
    dot, square_a, square_b = total(a * b, a * a, b * b)
    pearson: Tensor = dot / (_norm(square_a) * _norm(square_b) + 1e-8)
    return pearson


def _norm(square: Float[Tensor, "vectors"]) -> Float[Tensor, "vectors"]:
    """Square root with a gradient of 0 at 0, as norms have: a constant vector must not make it nan."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


class _SumOverProcesses(torch.autograd.Function):
    """Sum over the default group. So is the gradient: each process's loss holds the same sum."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _all_reduced(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _all_reduced(grad)


def _all_reduced(value: Tensor) -> Tensor:
    """The sum over the default group, in a new tensor."""
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total
