"""ListMLE and p-ListMLE: PLD's order, with weights that do not come from the teacher."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pld.losses.arguments import reduce_loss
from pld.losses.module import TeacherLossModule, settings_of
from pld.losses.plackett_luce.nll import unchecked_nll
from pld.losses.registry import loss
from pld.losses.settings import Reduction
from pld.losses.teacher import as_topk, ranking
from pld.signals import TopK


@loss("listmle", all_classes="every rank weighs the same")
def listmle_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    weight: Float[Tensor, "B"] | None = None,
    *,
    approximate: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """ListMLE (Xia et al. 2008) on PLD's order: every rank weighs 1 / C.

    A TopK with k < C is refused unless `approximate`, which leaves out the terms of the ranks it does not hold: from
    50 of 1000 classes that is nearly all of the gradient.

    Arguments and errors are `pld_loss`'s.
    """
    index, valid = ranking(as_topk(teacher, labels))
    nll = unchecked_nll(student_logits, index, valid, valid.double() / student_logits.shape[1], None)
    return reduce_loss(nll, weight, reduction)


@loss("plistmle")
def plistmle_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    weight: Float[Tensor, "B"] | None = None,
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """p-ListMLE (Lan et al. 2014) on PLD's order: rank r of C weighs 2^(C-r) - 1, normalised to sum to one.

    Any TopK will do: the ranks below R weigh less than 2^-R together.

    Arguments and errors are `pld_loss`'s.
    """
    index, valid = ranking(as_topk(teacher, labels))
    weights = _halving_weights(student_logits.shape[1], labels.device)[valid.cumsum(dim=1)] * valid
    nll = unchecked_nll(student_logits, index, valid, weights, None)
    return reduce_loss(nll, weight, reduction)


class ListMLELoss(TeacherLossModule):
    """`listmle_loss` as a module."""

    @settings_of(listmle_loss)
    def __init__(self) -> None: ...


class PListMLELoss(TeacherLossModule):
    """`plistmle_loss` as a module."""

    @settings_of(plistmle_loss)
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
