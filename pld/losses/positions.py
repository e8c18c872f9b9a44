"""A loss at many positions of each sample: logits [B, C, ...] or [B, ..., C], positions left out, a weight for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pld.errors import ConfigError, SignalError
from pld.losses.plackett_luce.rows import wide_dtype
from pld.signals import MixedLabels, TopK

ClassDim = Literal[1, -1]


def check_layout(where: str, class_dim: ClassDim | None, ignore_index: int | None) -> None:
    """Raise ConfigError unless class_dim is 1, -1 or None, and ignore_index an int or None."""
    if class_dim is not None and (isinstance(class_dim, bool) or class_dim not in (1, -1)):
        raise ConfigError(
            f"{where}: class_dim = {class_dim!r}, wanted 1 for logits [B, C, ...], -1 for [B, ..., C], or None for "
            "[B, C]"
        )
    if ignore_index is not None and (isinstance(ignore_index, bool) or not isinstance(ignore_index, int)):
        raise ConfigError(f"{where}: ignore_index = {ignore_index!r}, wanted an integer such as -100, or None")


def at_positions(
    function: Callable[..., Tensor],
    settings: Mapping[str, Any],
    sides: Sequence[Float[Tensor, "..."] | TopK],
    labels: Int[Tensor, "..."] | MixedLabels | None,
    weight: Float[Tensor, "..."] | None,
    *,
    class_dim: ClassDim | None,
    ignore_index: int | None,
) -> Float[Tensor, "*reduced"]:
    """A loss function's value where each position is a sample of its own.

    Positions whose label is `ignore_index` are blanked in a copy and weigh 0: none of their numbers is read, and their
    gradient is exactly 0. No value is looked at but to compare labels with a TopK's, so a GPU is not waited for and a
    compiled graph stays one.

    Args:
        function: the loss.
        settings: its keyword arguments. "mean" divides by the weight of the positions that count, and is 0 where
            there are none; "none" gives each position's loss, in the shape of the labels.
        sides: the student's logits, [B, C] or of more dimensions with class_dim; and the teacher, where the loss has
            one: logits of the same shape, or a TopK with a row for each position, in the order of `labels.flatten()`,
            valid also where a position is left out.
        labels: int64, of the logits' shape without its classes; None for images without labels.
        weight: what each position counts for, of the labels' shape.
        class_dim: where the classes are; None for logits [B, C].
        ignore_index: the label of positions that are left out; None where none are.

    Raises:
        SignalError: as the function, or a shape does not fit that of student_logits, or the labels are mixed.
    """
    student_logits, teacher = sides[0], sides[-1]
    assert isinstance(student_logits, Tensor)
    _check_shapes(student_logits, teacher, labels, weight, class_dim)
    if isinstance(labels, MixedLabels) or (labels is None and ignore_index is not None):
        raise SignalError(_no_plain_labels(labels))
    dim = 1 if class_dim is None else class_dim
    shape = student_logits.movedim(dim, -1).shape[:-1]
    keep = None if ignore_index is None or labels is None else (labels != ignore_index).flatten()
    rows = [_rows(side, dim, keep) if isinstance(side, Tensor) else side for side in sides]
    flat, of_each = (None if each is None else each.flatten() for each in (labels, weight))
    if keep is None or flat is None:
        value: Tensor = function(*rows, flat, of_each, **settings)
        return value.view(shape) if settings["reduction"] == "none" else value
    flat = _labels_of(teacher, flat, keep)
    of_each = keep.to(wide_dtype(student_logits)) if of_each is None else torch.where(keep, of_each, 0.0)
    value = function(*rows, flat, of_each, **{**settings, "reduction": "none"})
    if settings["reduction"] == "none":
        return value.view(shape)
    total = of_each.sum()
    return value.sum() / torch.where(total == 0, 1.0, total)


def _check_shapes(
    student_logits: Tensor,
    teacher: TopK | Tensor,
    labels: Tensor | MixedLabels | None,
    weight: Tensor | None,
    class_dim: ClassDim | None,
) -> None:
    """Raise SignalError unless everything has the shape of the student's logits, or that without its classes."""
    found = list(student_logits.shape)
    if len(found) < 2 or (class_dim is None and len(found) > 2):
        raise SignalError(
            f"student_logits: found shape {found}, wanted [B, C]; for more dimensions class_dim=1, which is "
            "[B, C, ...], or class_dim=-1, which is [B, ..., C]"
        )
    if isinstance(teacher, Tensor) and teacher.shape != student_logits.shape:
        raise SignalError(f"teacher: found shape {list(teacher.shape)}, wanted {found}, that of student_logits")
    dim = 1 if class_dim is None else class_dim
    wanted = student_logits.movedim(dim, -1).shape[:-1]
    for name, each in (("labels", labels), ("weight", weight)):
        if isinstance(each, Tensor) and each.shape != wanted:
            raise SignalError(
                f"{name}: found shape {list(each.shape)}, wanted {list(wanted)} for student_logits of shape {found} "
                f"with the classes in dimension {dim}; class_dim says which it is, 1 or -1"
            )


def _no_plain_labels(labels: MixedLabels | None) -> str:
    """What to do where there is no tensor of labels to read positions from."""
    if labels is None:
        return (
            "labels: found None, wanted labels, from which ignore_index reads the positions to leave out; without "
            "labels leave rows out yourself: student_logits[keep], and a TopK's by "
            "pld.signals.with_tensors([teacher], lambda tensor: tensor[keep])"
        )
    return (
        "labels: found MixedLabels, wanted a tensor, with class_dim or ignore_index; without these the module takes "
        "MixedLabels of flattened positions: student_logits.movedim(class_dim, -1).flatten(0, -2), teacher likewise, "
        "and labels.flatten(), others.flatten(), share.flatten()"
    )


def _rows(logits: Float[Tensor, "..."], class_dim: int, keep: Bool[Tensor, "N"] | None) -> Float[Tensor, "N C"]:
    """A row for each position, in at most one copy; blank where a position is left out, whatever it held."""
    moved = logits.movedim(class_dim, -1)
    rows = moved.contiguous().flatten(0, -2)
    if keep is None:
        return rows
    blank = ~keep[:, None]
    # Where `contiguous` has copied, the copy is ours to write to.
    return rows.masked_fill(blank, 0.0) if moved.is_contiguous() else rows.masked_fill_(blank, 0.0)


def _labels_of(teacher: TopK | Tensor, labels: Int[Tensor, "N"], keep: Bool[Tensor, "N"]) -> Int[Tensor, "N"]:
    """The labels with some class at the positions left out: a TopK's own, which must agree where positions count."""
    if not isinstance(teacher, TopK):
        return torch.where(keep, labels, 0)
    held = teacher.labels
    if held is None or held.shape != labels.shape:
        return torch.where(keep, labels, 0)  # for the function to refuse
    if not torch.compiler.is_compiling() and not torch.equal(torch.where(keep, labels, held), held):
        different = int(((labels != held) & keep).sum())
        raise SignalError(
            f"labels: {different} of {int(keep.sum())} that count differ from teacher.labels; a TopK serves the "
            "positions and labels it was made for, in the order of labels.flatten()"
        )
    return held
