"""Ranking losses: each puts its own weights on one order, the label (if there is one), then the teacher's ranking."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pld.losses.arguments import check_topk, reduce_loss
from pld.losses.kd import label_nll
from pld.losses.module import TeacherLossModule, settings_of
from pld.losses.plackett_luce.nll import unchecked_nll
from pld.losses.plackett_luce.rows import wide_dtype
from pld.losses.registry import loss
from pld.losses.settings import Backend, Reduction, Tail, Temperature, check_settings
from pld.losses.teacher import as_topk, log_weights, ranking
from pld.signals import MixedLabels, TopK, check_numbers, rounding_error


def _first_rank(
    student_logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"] | MixedLabels, weight: Tensor | float
) -> Float[Tensor, "B"]:
    """The term of a ranking's first class, the label's: its weight times the cross entropy."""
    return weight * label_nll(student_logits, _first_class(labels))


def _first_class(labels: Int[Tensor, "B"] | MixedLabels) -> Int[Tensor, "B"]:
    return labels.labels if isinstance(labels, MixedLabels) else labels


def _listmle_label_part(
    student_logits: Float[Tensor, "B C"], teacher: object, labels: Int[Tensor, "B"] | MixedLabels, **_: Any
) -> Float[Tensor, "B"]:
    return _first_rank(student_logits, labels, 1 / student_logits.shape[1])


def _plistmle_label_part(
    student_logits: Float[Tensor, "B C"], teacher: object, labels: Int[Tensor, "B"] | MixedLabels, **_: Any
) -> Float[Tensor, "B"]:
    return _first_rank(student_logits, labels, _halving_weights(student_logits.shape[1], student_logits.device)[1])


def _pld_label_part(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels,
    *,
    temperature: float,
    **_settings: Any,
) -> Float[Tensor, "B"]:
    if isinstance(teacher, TopK):  # of a dense teacher the ranking would be sorted again
        _, valid = ranking(teacher)
        weights = torch.softmax(log_weights(teacher, valid, temperature, student_logits.shape[1]), dim=1)[:, 0]
    else:
        first = _first_class(labels)
        weights = torch.softmax(teacher.to(wide_dtype(teacher)) / temperature, dim=1).gather(1, first[:, None])[:, 0]
    return _first_rank(student_logits, labels, weights)


@loss(
    "listmle",
    all_classes="every rank weighs the same",
    without_label=True,
    mixed_labels=True,
    label_part=_listmle_label_part,
)
def listmle_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels | None,
    weight: Float[Tensor, "B"] | None = None,
    *,
    approximate: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """ListMLE (Xia et al. 2008) on PLD's order: every rank weighs 1 / C.

    A TopK with k < C is refused unless `approximate`, which leaves out the terms of the ranks it does not hold: from
    50 of 1000 classes that is nearly all of the gradient. Of a mixed image the label of the larger share comes first,
    as in PLD.

    Arguments and errors are `pld_loss`'s.
    """
    index, valid = ranking(as_topk(teacher, labels))
    nll = unchecked_nll(student_logits, index, valid, valid.double() / student_logits.shape[1], None)
    return reduce_loss(nll, weight, reduction)


@loss(
    "plistmle",
    same_k="its ranks weigh by their number, whatever the teacher's mass",
    without_label=True,
    mixed_labels=True,
    label_part=_plistmle_label_part,
)
def plistmle_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels | None,
    weight: Float[Tensor, "B"] | None = None,
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """p-ListMLE (Lan et al. 2014) on PLD's order: rank r of C weighs 2^(C-r) - 1, normalised to sum to one.

    Any k works: the ranks below R have a total weight of less than 2^-R. A TopK that keeps as many classes as an error
    asks for (`counts`) is refused: it may be one class, and half of the weight is then missing. Of a mixed image the
    label of the larger share comes first, as in PLD.

    Arguments and errors are `pld_loss`'s.
    """
    index, valid = ranking(as_topk(teacher, labels))
    weights = _halving_weights(student_logits.shape[1], index.device)[valid.cumsum(dim=1)] * valid
    nll = unchecked_nll(student_logits, index, valid, weights, None)
    return reduce_loss(nll, weight, reduction)


@loss("pld", without_label=True, mixed_labels=True, label_part=_pld_label_part)
def pld_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | MixedLabels | None,
    weight: Float[Tensor, "B"] | None = None,
    *,
    temperature: Temperature = 1.0,
    tail: Annotated[Tail, "drop or uniform, of {losses}"] = "drop",
    approximate: bool = False,
    backend: Backend = "torch",
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Plackett-Luce distillation (arXiv:2506.12542): each rank weighs what the teacher gives its class.

    The order is the label, then the other classes by falling teacher logit (ties: lower class first); the weights are
    the teacher's softmax at `temperature`. The student is not tempered. For images without labels the teacher alone
    ranks: the order is its classes by falling logit, as if its first choice were the label. Of a mixed image the label
    is that of the larger share; the other image's label keeps the rank and the weight that the teacher gives it.

    Args:
        student_logits: [B, C].
        teacher: a TopK of these samples, or dense logits [B, C]. A TopK's terms are exact; what is missing are its
            tail's, see `gradient_error_bound`.
        labels: int64 [B], or the MixedLabels of mixed images; None for images without labels.
        weight: [B], what each sample counts for.
        temperature: the teacher's, above 0. Above 1 a TopK with k < C is refused unless `approximate`.
        tail: what becomes of the teacher's mass outside the TopK: "drop" leaves its terms out, "uniform" takes the
            tail as one group of exchangeable classes, mass * (logsumexp of the tail - its mean).
        approximate: permit what a truncated TopK cannot support.
        backend: "torch" works everywhere; "triton" is one kernel for a GPU that makes the loss and its gradient in one
            pass over each row (docs/decisions/0007), for k up to 4095. It wants triton, `pip install '.[triton]'`.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: an argument has a wrong shape or dtype, a label or a share is out of range, a label is not the
            TopK's, a logit, a weight or a value of the TopK is not finite, or the TopK cannot support the temperature.
        ConfigError: a setting has an invalid value, or the backend is not available.

    Example:
        >>> import torch
        >>> from pld.signals import TopK
        >>> teacher, labels = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]]), torch.tensor([0, 2])
        >>> student = torch.zeros(2, 3, requires_grad=True)
        >>> loss = pld_loss(student, teacher, labels)
        >>> print(f"{loss:.4f}")
        0.8054
        >>> loss.backward()
        >>> topk = TopK.from_logits(teacher, labels, k=2)
        >>> print(f"{pld_loss(student, topk, labels):.4f}")  # the tail's last rank has nothing left to be wrong about
        0.8054
    """
    topk, num_classes = as_topk(teacher, labels), student_logits.shape[1]
    index, valid = ranking(topk)
    weights = torch.softmax(log_weights(topk, valid, temperature, num_classes), dim=1)
    rest_weight = weights[:, -1] if tail == "uniform" and not topk.holds_all(num_classes) else None
    nll = unchecked_nll(student_logits, index, valid, weights[:, :-1], rest_weight, backend)
    return reduce_loss(nll, weight, reduction)


@check_settings
def gradient_error_bound(topk: TopK, temperature: Temperature = 1.0, tail: Tail = "drop") -> Float[Tensor, "B"]:
    """An upper bound of the L1 distance between PLD's gradient from this TopK and from its dense teacher, per sample.

    The gradient is that of one sample's loss with respect to the student's logits, for any student. With q the
    teacher's mass outside S (the top-k, and the label if there is one) at the temperature, d the logprob_error and u
    the mass whose rank is not certain (0 for a single teacher), the bound is 2 q + 4 tanh(d / 2T) + 2 u, with 4 q for
    tail="uniform". Mixed images are covered: PLD depends on their labels as it depends on the TopK's alone.
    docs/gradient_error_bound.md proves it.

    Args:
        topk: the teacher's signal.
        temperature: the loss's, above 0.
        tail: the loss's.

    Raises:
        SignalError: the TopK does not hold the temperature, or holds inf or nan.
        ConfigError: a setting has a value that is not one of its own.

    Example:
        >>> import torch
        >>> topk = TopK.from_logits(torch.tensor([[4.0, 2.0, 0.0, 0.0]]), torch.tensor([1]), k=2)
        >>> print(f"{gradient_error_bound(topk).item():.4f}")  # twice the mass of the last two classes
        0.0625
    """
    check_topk("topk", topk)
    check_numbers(topk.logprob_error, topk.temperatures)
    _, valid = ranking(topk)
    weights = torch.softmax(log_weights(topk, valid, temperature), dim=1)
    per_mass = 2 if tail == "drop" else 4
    bound = per_mass * weights[:, -1] + rounding_error(topk.logprob_error, temperature)
    # The columns of the top k: a label has one before them.
    return bound if topk.unsettled is None else bound + 2 * (weights[:, -1 - topk.k : -1] * topk.unsettled).sum(dim=1)


class ListMLELoss(TeacherLossModule):
    """`listmle_loss` as a module."""

    @settings_of(listmle_loss)
    def __init__(self) -> None: ...


class PListMLELoss(TeacherLossModule):
    """`plistmle_loss` as a module."""

    @settings_of(plistmle_loss)
    def __init__(self) -> None: ...


class PLDLoss(TeacherLossModule):
    """`pld_loss` as a module. With labels None the teacher alone ranks."""

    @settings_of(pld_loss)
    def __init__(self) -> None: ...


def _halving_weights(num_classes: int, device: torch.device) -> Float[Tensor, "ranks"]:
    """p-ListMLE's weight of rank r at index r, for r = 1..C; index 0 is unused. float64, [C + 1].

    2^(C-r) - 1 overflows, so it is formed as 2^-r (1 - 2^(r-C)), over the same form of the sum, 2^C - 1 - C.
    """
    if num_classes == 1:
        return torch.zeros(2, dtype=torch.float64, device=device)
    rank = torch.arange(num_classes + 1, dtype=torch.float64, device=device)
    log_total = math.log1p(-(num_classes + 1) * 2.0**-num_classes) if num_classes < 1000 else 0.0
    log_weight = -rank * math.log(2) + torch.log1p(-torch.exp2(rank - num_classes)) - log_total
    return log_weight.exp()
