"""A loss: `train-student --loss hinge --margin 0.5`."""

from typing import Annotated

from jaxtyping import Float, Int
from torch import Tensor

from pld.losses import register_loss
from pld.losses.arguments import reduce_loss
from pld.losses.settings import POSITIVE, Reduction, Temperature
from pld.losses.teacher import as_topk
from pld.signals import TopK


@register_loss("hinge")
def hinge_loss(
    student_logits: Float[Tensor, "B C"],
    teacher: TopK | Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    weight: Float[Tensor, "B"] | None = None,
    *,
    margin: Annotated[float, POSITIVE, "of {losses}; the least gap to the label"] = 1.0,
    temperature: Temperature = 1.0,
    approximate: bool = False,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """How far each class that the teacher holds comes within `margin` of the label, weighed by its probability."""
    topk = as_topk(teacher, labels)
    gap = student_logits.gather(1, topk.classes) - student_logits.gather(1, labels[:, None])
    wrong = topk.classes != labels[:, None]
    hinges = (topk.logprobs / temperature).exp() * wrong * (margin + gap).clamp(min=0)
    return reduce_loss(hinges.sum(dim=1), weight, reduction)
