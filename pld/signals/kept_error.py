"""An error in place of a k: how few of a row's classes keep the bound of PLD's gradient error under it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from pld.errors import SignalError


def rounding_error(logprob_error: float, temperature: float = 1.0) -> float:
    """What rounding log-probabilities by at most so many nats adds to the bound of PLD's gradient, L1."""
    return 4 * math.tanh(logprob_error / (2 * temperature))


def check_error(error: float, logprob_error: float) -> None:
    """Raise SignalError unless a bound of PLD's gradient error is above what rounding alone costs, and below 2."""
    least = rounding_error(logprob_error)
    if not least < error < 2:
        cost = f"{least:.4g}, which rounding to the store's grid costs alone," if least else "0"
        raise SignalError(
            f"error = {error}: wanted more than {cost} and less than 2, the most that any k costs: the L1 error of "
            "PLD's gradient for each sample, such as 0.03"
        )


def joined_tails(tail_logmass: Float[Tensor, "B"], logprobs: Float64[Tensor, "B k"]) -> Float64[Tensor, "B k"]:
    """The tail's log mass if the first 1, 2, ..., k classes are kept and the others join it."""
    columns = torch.cat([tail_logmass.double()[:, None], logprobs.flip(1)], dim=1)
    return columns.logcumsumexp(dim=1)[:, :-1].flip(1)


def fewest_classes(tails: Float64[Tensor, "B k"], error: float, logprob_error: float) -> Int[Tensor, "B"]:
    """How many classes a row must keep for a bound of at most `error`; k where no number of them has it.

    The bound is `gradient_error_bound`'s, also after each log-probability and the tail moved by up to
    `logprob_error`: that takes a mass q outside the classes to at most q e^2d / (1 - q + q e^2d).

    Args:
        tails: the tail's log mass at T = 1 if 1, 2, ..., k classes are kept.
        error: L1, as `check_error` wants it.
        logprob_error: nats.
    """
    moved = tails.exp() * math.exp(2 * logprob_error)
    outside = moved / (1 - tails.exp() + moved)
    too_few = 2 * outside + rounding_error(logprob_error) > error
    return (too_few.sum(dim=1) + 1).clamp(max=tails.shape[1])
