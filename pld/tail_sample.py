"""Draw classes from a teacher's tail, each with a known probability: systematic sampling with unequal probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from pld.randomness import choice

# A class is certain to be drawn from this share of the threshold on: rounding must not draw one twice, or miss one.
_CERTAIN = 1 - 1e-9
_DEEPEST = -600.0
# The smallest log-probability of being drawn that is believed: a draw below it has a chance of C / 10^17.
LEAST_LOG_INCLUSION = -40.0


def tail_uniforms(keys: Sequence[str], view: int, seed: int) -> Float64[Tensor, "B"]:
    """A number in [0, 1) for each sample's view, by which its tail is drawn: a pure function of seed, key and view."""
    numbers = [choice(2**53, f"tail/{seed}/{view}/{key}") for key in keys]
    return torch.tensor(numbers, dtype=torch.float64) / 2**53


def draw_tail(
    logprobs: Float[Tensor, "B C"], num: int, temperature: float, uniforms: Float64[Tensor, "B"]
) -> tuple[Int[Tensor, "B m"], Float64[Tensor, "B"]]:
    """Draw a fixed number of each row's classes without replacement, by their probabilities at a temperature.

    With x = exp(logprob / temperature), a class is drawn with probability min(1, x / t); the threshold t makes these
    sum to `num`. Classes of at least t are certain. The others lie side by side in the order of their numbers, each as
    long as its probability; the points u, u + 1, u + 2, ... draw those that they hit (Madow 1949). A class is shorter
    than the points are apart, so none is drawn twice, and a u that falls evenly into [0, 1) hits it with its
    probability.

    Args:
        logprobs: [B, C], nats; -inf for classes that are not in the tail.
        num: m, classes to draw, at least 1 and at most as many as each row's tail has.
        temperature: of the probabilities.
        uniforms: float64 [B], u of each row, in [0, 1).

    Returns:
        The classes in ascending order, int64 [B, m], and the log-probability from which on a class is certain, float64
        [B]: the probability of being drawn is min(1, exp((logprob - threshold) / temperature)). If all classes are
        certain, it is the least of theirs.
    """
    scaled = logprobs.detach().double() / temperature
    top = scaled.amax(dim=1, keepdim=True)
    # Far below, nothing is left of an exponential; any number of classes can be drawn all the same.
    share = (scaled - top).clamp(min=_DEEPEST).exp().masked_fill(scaled == -torch.inf, 0.0)
    threshold = _threshold(share, num)
    certain = share >= threshold * _CERTAIN
    # Where nothing is left to chance, all that the tail has is drawn, however improbable.
    everything = torch.isfinite(scaled).sum(dim=1, keepdim=True) <= num
    certain = torch.where(everything, torch.isfinite(scaled), certain)
    log_threshold = (threshold.log() + top)[:, 0] * temperature
    least = logprobs.detach().double().masked_fill(~certain, torch.inf).amin(dim=1)
    return _systematic(share / threshold, certain, num, uniforms), torch.where(everything[:, 0], least, log_threshold)


def log_inclusion(
    logprobs: Float[Tensor, "B m"], threshold: Float[Tensor, "B"], temperature: float
) -> Float[Tensor, "B m"]:
    """The log of the probability with which `draw_tail` draws classes of these log-probabilities."""
    return ((logprobs - threshold[:, None]) / temperature).clamp(max=0)


def _threshold(share: Float64[Tensor, "B C"], num: int) -> Float64[Tensor, "B 1"]:
    """t such that the sum of min(1, share / t) is num.

    With the a largest shares certain, t is the sum of the others over num - a; a is the first for which the next share
    is below its t.
    """
    largest, places = share.topk(num, dim=1)
    # Summed without the largest ones, rather than subtracted: what is left may be a tiny part of the whole.
    others = share.scatter(1, places, 0.0).sum(dim=1, keepdim=True)
    left = largest.flip(1).cumsum(dim=1).flip(1) + others
    candidates = left / torch.arange(num, 0, -1, dtype=torch.float64, device=share.device)
    num_certain = (largest >= candidates).long().cumprod(dim=1).sum(dim=1, keepdim=True)
    return candidates.gather(1, num_certain.clamp(max=num - 1))


def _systematic(
    inclusion: Float64[Tensor, "B C"], certain: Bool[Tensor, "B C"], num: int, uniforms: Float64[Tensor, "B"]
) -> Int[Tensor, "B m"]:
    """The certain classes, and of the others those that the points u, u + 1, ... hit; ascending, int64 [B, m]."""
    num_points = num - certain.sum(dim=1, keepdim=True)
    ends = inclusion.masked_fill(certain, 0.0).cumsum(dim=1)
    # They end at a whole number of points but for rounding, and the last point must not fall behind the end.
    ends = ends.masked_fill(ends >= ends[:, -1:], torch.inf)
    points_before = torch.minimum((ends - uniforms[:, None]).ceil().clamp(min=0), num_points.double())
    drawn = certain | (points_before.diff(dim=1, prepend=torch.zeros_like(points_before[:, :1])) > 0)
    # Every row has num True entries: nonzero lists them row by row.
    return drawn.nonzero()[:, 1].reshape(len(drawn), num)
