"""Check the arguments of losses; each error names the argument, what was found and what was wanted.

Checks that must look at values run where looking is free: on the CPU, outside `torch.compile`. On an accelerator they
would make the host wait for the device at every step; there a label out of range is the device's own index error
(with the Triton kernel, a nan loss), a share out of range weighs as it is, and what is not finite in logits, a signal,
shares or weights gives a loss that is not finite, where the loss makes use of it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pld.errors import SignalError
from pld.losses.settings import Reduction
from pld.signals import MixedLabels, TopK, larger_share

NO_SAMPLED_TAIL = (
    "which serve kd, dkd, soft_ce, wttm and ea_kd alone: of the tail's other classes neither order nor correlation is "
    "known"
)


def values_are_free(tensor: Tensor) -> bool:
    """Whether the tensor's values can be read without a device synchronisation or a graph break."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def check_batch(
    loss: str,
    reason: str | None,
    sampled_tail: bool,
    same_k: str | None,
    student_logits: Tensor,
    labels: Tensor | MixedLabels | None,
    teacher: TopK | Tensor | None = None,
    approximate: bool = False,
    **_: Any,
) -> None:
    """Raise SignalError unless a loss's arguments fit each other and the teacher holds the classes needed."""
    check_student(student_logits)
    num_classes = student_logits.shape[1]
    if isinstance(labels, MixedLabels):
        _check_mixed(labels, student_logits)
    elif labels is not None:
        _check_classes("labels", labels, student_logits)
    if isinstance(teacher, TopK):
        _check_teacher(teacher, larger_share(labels), student_logits)
        if same_k and teacher.counts is not None:
            raise SignalError(
                f"{loss}: the teacher lists another number of classes for each sample (--error), wanted the same k of "
                f"all: {same_k}; use a teacher without counts, from a store made without --error"
            )
        if not (sampled_tail and teacher.tail_samples):
            require_classes(loss, teacher, num_classes, reason, approximate=approximate)
    elif teacher is not None:
        if teacher.shape != student_logits.shape or not teacher.is_floating_point():
            raise SignalError(
                f"teacher: found {teacher.dtype} of shape {list(teacher.shape)}, wanted floating point of shape "
                f"{list(student_logits.shape)}, that of student_logits"
            )
        check_finite("teacher", teacher)


def require_classes(loss: str, teacher: TopK, num_classes: int, reason: str | None, *, approximate: bool) -> None:
    """Raise SignalError if the loss needs all classes (`reason`), the top-k has fewer and `approximate` is False."""
    if reason and not teacher.holds_all(num_classes) and not approximate:
        held = f"k = {teacher.k}" if teacher.counts is None else f"as many as an error asks for, at most {teacher.k},"
        sampled = f" and {teacher.tail_samples} of the tail, {NO_SAMPLED_TAIL}" if teacher.tail_samples else ""
        raise SignalError(
            f"{loss}: the teacher holds {held} of {num_classes} classes{sampled}, wanted all: {reason}; use a "
            "teacher with k = C, or approximate=True"
        )


def reduce_loss(
    per_sample: Float[Tensor, "B"], weight: Float[Tensor, "B"] | None, reduction: Reduction
) -> Float[Tensor, "*reduced"]:
    """Weigh and reduce: "mean" divides the weighted sum by the sum of the weights, "none" keeps [B].

    Raises:
        SignalError: weight has another length, or is not finite.
    """
    if weight is None:
        return per_sample.mean() if reduction == "mean" else per_sample
    check_vector("weight", weight, per_sample[:, None])
    check_finite("weight", weight)
    weighted = per_sample * weight
    return weighted.sum() / weight.sum() if reduction == "mean" else weighted


def check_finite(name: str, values: Tensor) -> None:
    """Raise SignalError where a value is inf or nan."""
    # One sum is far cheaper than a mask of the whole matrix; it can overflow, so only the mask decides.
    if values_are_free(values) and not math.isfinite(float(values.detach().sum())):
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise SignalError(
                f"{name} of shape {list(values.shape)}: found {bad} inf or nan, wanted finite values"
                f"{_masked_out(name, values)}"
            )


def check_student(student_logits: Tensor) -> None:
    """Raise SignalError unless the student's logits are floating, [B, C] with B and C at least 1, and finite."""
    if student_logits.ndim != 2 or not student_logits.is_floating_point() or 0 in student_logits.shape:
        raise SignalError(
            f"student_logits: found {student_logits.dtype} of shape {list(student_logits.shape)}, "
            f"wanted floating point of shape [B, C] with at least one sample{_positions(student_logits)}"
        )
    check_finite("student_logits", student_logits)


def _positions(logits: Tensor) -> str:
    """What to do with logits of more than two dimensions."""
    if logits.ndim < 3:
        return ""
    return (
        "; a module takes the classes in another dimension, such as PLDLoss(class_dim=1), and a function what is "
        "flattened: logits.movedim(1, -1).flatten(0, -2), both sides alike, and labels.flatten()"
    )


def _masked_out(name: str, logits: Tensor) -> str:
    """What to do with classes that are masked out by -inf, and by nothing else that is not finite."""
    if name not in ("student_logits", "teacher") or not bool((torch.isfinite(logits) | (logits == -math.inf)).all()):
        return ""
    return (
        "; leave classes that are masked out by -inf out on both sides, logits[:, allowed]; where they differ between "
        "rows, logits.clamp(min=-1e4) on both sides is as good, but for losses that count the classes "
        "(docs/own_loop.md)"
    )


def check_vector(name: str, vector: Tensor, student_logits: Tensor) -> None:
    """Raise SignalError unless there is one value per row of the student's logits."""
    if vector.shape != student_logits.shape[:1]:
        raise SignalError(
            f"{name}: found shape {list(vector.shape)}, wanted [{student_logits.shape[0]}] for student_logits of "
            f"shape {list(student_logits.shape)}"
        )


def check_order(order: Tensor, weight: Tensor, student_logits: Tensor) -> None:
    """Raise SignalError unless order is int64 [B, R] of classes, or -1 after the first, with a weight for each."""
    rows, num_classes = student_logits.shape
    if order.dtype != torch.int64 or order.ndim != 2 or order.shape[0] != rows or order.shape[1] == 0:
        raise SignalError(f"order: found {order.dtype} of shape {list(order.shape)}, wanted int64 of shape [{rows}, R]")
    if weight.shape != order.shape:
        raise SignalError(f"weight: found shape {list(weight.shape)}, wanted {list(order.shape)}, that of order")
    _check_range("order", order, num_classes, lowest=-1)
    _check_range("order's first column", order[:, 0], num_classes, lowest=0)


def check_topk(name: str, topk: TopK) -> None:
    """Raise SignalError where a TopK holds inf or nan; only padding may be -inf, and a tail, which is then empty."""
    check_finite(
        f"{name}.logprobs", topk.logprobs if topk.counts is None else topk.logprobs.masked_fill(~topk.listed, 0.0)
    )
    if topk.label_logprob is not None:
        check_finite(f"{name}.label_logprob", topk.label_logprob)
    if topk.tail_sample is not None:
        check_finite(f"{name}.tail_sample.logprobs", topk.tail_sample.logprobs)
        check_finite(f"{name}.tail_sample.threshold", topk.tail_sample.threshold)
    tail = topk.tail_logmass
    # Of a nan the largest value is nan, and no nan is below inf.
    if values_are_free(tail) and tail.numel() and not float(tail.detach().amax()) < math.inf:
        bad = int((~(tail < math.inf)).sum())
        raise SignalError(
            f"{name}.tail_logmass of shape {list(tail.shape)}: found {bad} nan or +inf, wanted finite values, or -inf "
            "where the tail is empty"
        )


def _check_classes(name: str, classes: Tensor, student_logits: Tensor) -> None:
    """Raise SignalError unless these are int64 [B], each in 0..C-1."""
    check_vector(name, classes, student_logits)
    if classes.dtype != torch.int64:
        raise SignalError(f"{name}: found {classes.dtype}, wanted int64 class indices")
    _check_range(name, classes, student_logits.shape[1], lowest=0)


def _check_mixed(mixed: MixedLabels, student_logits: Tensor) -> None:
    """Raise SignalError unless both labels are classes and the share is 0.5 to 1, all on the logits' device."""
    fields = {"labels.labels": mixed.labels, "labels.others": mixed.others, "labels.share": mixed.share}
    for name, values in fields.items():
        if values.device != student_logits.device:
            raise SignalError(
                f"{name}: found it on {values.device}, wanted {student_logits.device}, where student_logits are; "
                "use MixedLabels.to(device)"
            )
    _check_classes("labels.labels", mixed.labels, student_logits)
    _check_classes("labels.others", mixed.others, student_logits)
    check_vector("labels.share", mixed.share, student_logits)
    if not mixed.share.is_floating_point():
        raise SignalError(f"labels.share: found {mixed.share.dtype}, wanted floating point")
    if values_are_free(mixed.share):
        low, high = (float(bound) for bound in torch.aminmax(mixed.share.detach()))
        if not 0.5 <= low <= high <= 1:  # false for nan too
            raise SignalError(
                f"labels.share: found {low:g}..{high:g}, wanted 0.5..1; labels.labels are those of the image with the "
                "larger share, labels.others the other's"
            )


def _check_teacher(teacher: TopK, labels: Tensor | None, student_logits: Tensor) -> None:
    """Raise SignalError unless a TopK belongs to these samples, labels and classes, and is finite."""
    rows, num_classes = student_logits.shape
    if teacher.classes.shape[0] != rows or teacher.k > num_classes:
        raise SignalError(
            f"teacher: found classes of shape {list(teacher.classes.shape)}, wanted [{rows}, k] with k at most "
            f"{num_classes} for student_logits of shape {list(student_logits.shape)}"
        )
    _check_range("teacher.classes", teacher.classes, num_classes, lowest=0)
    if teacher.tail_sample is not None:
        teacher.check_shapes(num_classes)
        _check_range("teacher.tail_sample.classes", teacher.tail_sample.classes, num_classes, lowest=0)
    if teacher.counts is not None:
        check_vector("teacher.counts", teacher.counts, student_logits)
    check_topk("teacher", teacher)
    _check_labels(teacher.labels, labels, rows)


def _check_labels(held: Tensor | None, labels: Tensor | None, rows: int) -> None:
    """Raise SignalError unless the labels are those of the TopK, or neither has any."""
    # The same tensor needs no look: loops that pass `topk.labels` never wait for the device here.
    if labels is held:
        return
    if labels is None or held is None:
        given, own = ("none", "some") if labels is None else ("some", "none")
        raise SignalError(f"labels: found {given}, and teacher.labels has {own}; pass teacher.labels itself")
    if not torch.compiler.is_compiling() and not torch.equal(labels, held):
        different = int((labels != held).sum())
        raise SignalError(
            f"labels: {different} of {rows} differ from teacher.labels; a TopK serves the samples and labels it was "
            "made for"
        )


def _check_range(name: str, classes: Tensor, num_classes: int, *, lowest: int) -> None:
    """Raise SignalError unless every value is in lowest..num_classes-1."""
    if values_are_free(classes):
        low, high = (int(bound) for bound in torch.aminmax(classes))
        if low < lowest or high >= num_classes:
            raise SignalError(f"{name}: found {low}..{high}, wanted {lowest}..{num_classes - 1}")
