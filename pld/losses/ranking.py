"""The ranking losses: each is a choice of weights over the label and then the teacher's order."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pld.losses.checks import Backend, Reduction, Tail, check_labels, check_settings, check_student, check_teacher
from pld.losses.plackett_luce.nll import checked_nll
from pld.losses.reduction import reduce_loss
from pld.losses.requirements import require_classes, why_all_classes
from pld.losses.teacher import as_topk, log_weights, ranking, tail_logmass
from pld.signals import TopK


def pld_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    *,
    temperature: float = 1.0,
    tail: Tail = "drop",
    approximate: bool = False,
    backend: Backend = "torch",
    weight: Float[Tensor, "B"] | None = None,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """Plackett-Luce distillation (arXiv:2506.12542): each rank weighs what the teacher gives its class.

    The order is the label, then the other classes by falling teacher logit (ties: lower class first); the weights are
    the teacher's softmax at `temperature`. The student is not tempered.

    Args:
        student_logits: [B, C].
        teacher: a TopK of these samples, or dense logits [B, C]. A TopK's terms are exact; what is missing are its
            tail's, see `gradient_error_bound`.
        labels: int64 [B].
        temperature: the teacher's, above 0. Above 1 a TopK with k < C is refused unless `approximate`.
        tail: what becomes of the teacher's mass outside the TopK: "drop" leaves its terms out, "uniform" takes the
            tail as one group of exchangeable classes, mass * (logsumexp of the tail - its mean).
        approximate: permit what a truncated TopK cannot support.
        backend: "torch" works everywhere; "triton" is one kernel for a GPU that makes the loss and its gradient in one
            pass over each row (docs/decisions/0007), for k up to 4095. It wants triton, `pip install '.[triton]'`.
        weight: [B], what each sample counts for.
        reduction: "mean" over samples (weighted, where there is a weight), or "none" for [B].

    Raises:
        SignalError: an argument has a wrong shape or dtype, a label is out of range or not the TopK's, a logit, a
            weight or a value of the TopK is not finite, or the TopK cannot support the temperature.
        ConfigError: a setting has a value that is not one of its own, or the backend cannot serve here.

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
    check_settings("pld_loss", temperature=temperature, tail=tail, approximate=approximate, backend=backend)
    topk, num_classes = _checked(student_logits, teacher, labels), student_logits.shape[1]
    require_classes("pld_loss", topk, num_classes, why_all_classes("pld_loss", temperature), approximate=approximate)
    index, held = ranking(topk)
    log_tail = tail_logmass(topk, num_classes, temperature)
    weights = torch.softmax(log_weights(topk, held, log_tail, temperature), dim=1)
    rest_weight = weights[:, -1] if tail == "uniform" and topk.k < num_classes else None
    nll = checked_nll(student_logits, index, held, weights[:, :-1], rest_weight, backend)
    return reduce_loss(nll, weight, reduction)


def listmle_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    *,
    approximate: bool = False,
    weight: Float[Tensor, "B"] | None = None,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """ListMLE (Xia et al. 2008) on PLD's order: every rank weighs 1 / C.

    A TopK with k < C is refused unless `approximate`, which leaves out the terms of the ranks it does not hold: from
    50 of 1000 classes that is nearly all of the gradient.

    Arguments and errors are `pld_loss`'s.
    """
    check_settings("listmle_loss", approximate=approximate)
    topk, num_classes = _checked(student_logits, teacher, labels), student_logits.shape[1]
    require_classes("listmle_loss", topk, num_classes, why_all_classes("listmle_loss"), approximate=approximate)
    index, held = ranking(topk)
    nll = checked_nll(student_logits, index, held, held.double() / num_classes, None)
    return reduce_loss(nll, weight, reduction)


def plistmle_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    *,
    weight: Float[Tensor, "B"] | None = None,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """p-ListMLE (Lan et al. 2014) on PLD's order: rank r of C weighs 2^(C-r) - 1, normalised to sum to one.

    Any TopK will do: the ranks below R weigh less than 2^-R together.

    Arguments and errors are `pld_loss`'s.
    """
    topk, num_classes = _checked(student_logits, teacher, labels), student_logits.shape[1]
    index, held = ranking(topk)
    weights = _halving_weights(num_classes, labels.device)[held.cumsum(dim=1)] * held
    nll = checked_nll(student_logits, index, held, weights, None)
    return reduce_loss(nll, weight, reduction)


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


def _checked(student_logits: Tensor, teacher: TopK | Tensor, labels: Tensor) -> TopK:
    """The teacher as a TopK, once the arguments are found to fit each other."""
    check_student(student_logits)
    check_labels(labels, student_logits)
    check_teacher(teacher, labels, student_logits)
    return as_topk(teacher, labels)
