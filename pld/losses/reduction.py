"""From one loss per sample to what is returned."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pld.losses.checks import Reduction, check_finite, check_settings, check_vector


def reduce_loss(
    per_sample: Float[Tensor, "B"], weight: Float[Tensor, "B"] | None, reduction: Reduction
) -> Float[Tensor, "*reduced"]:
    """Weigh and reduce.

    Args:
        per_sample: [B], one loss per sample.
        weight: [B], what each sample counts for; None counts each once.
        reduction: "mean" divides the weighted sum by the sum of the weights, "none" keeps [B].

    Raises:
        ConfigError: the reduction is neither.
        SignalError: weight has another length, or is not finite.
    """
    check_settings("loss", reduction=reduction)
    if weight is None:
        return per_sample.mean() if reduction == "mean" else per_sample
    check_vector("weight", weight, per_sample[:, None])
    check_finite("weight", weight)
    weighted = per_sample * weight
    return weighted.sum() / weight.sum() if reduction == "mean" else weighted
