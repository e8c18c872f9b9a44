"""TailSample: classes drawn from a teacher's tail, each with a known probability, which makes KD unbiased."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from pld.errors import SignalError
from pld.randomness import choice
from pld.signals.checks import Faults
from pld.signals.records import check_fields

# A class is certain to be drawn from this share of the threshold on: rounding must not draw one twice, or miss one.
_CERTAIN = 1 - 1e-9
_DEEPEST = -600.0
# The smallest log-probability of being drawn that is believed: a draw below it has a chance of C / 10^17.
LEAST_LOG_INCLUSION = -40.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TailSample:
    """m classes of each row's tail, drawn without replacement, from which KD is unbiased at every temperature held.

    With p(c) the teacher's probability at it, I(c) = 1 for the classes drawn and 0 for others, pi(c) = E I(c), S, the
    label and the top k, M the tail's mass, n its number of classes, and r = M / n, let

        p'(c) = r + (p(c) - r) * I(c) / pi(c)   for c in the tail,   p'(c) = p(c)   for c in S.

    M, and so r, is held, not estimated; I alone is random, and pi(c) > 0 for every c: E p'(c) = p(c). A divergence
    is linear in the teacher's probabilities but for their entropy, which no student changes: its gradient with respect
    to the student's logits is (q - p) / T, which p' replaces by (q - p') / T, of mean (q - p) / T. The error of p' is
    0 in S, and in the tail its mean square is the sum of (p(c) - r)^2 * (1 - pi(c)) / pi(c), as I(c)^2 = I(c)
    (Horvitz and Thompson 1952; difference estimator). p'(c) may be negative, and is no distribution by itself.

    Attributes:
        classes: int64 [B, m], the classes drawn, ascending.
        logprobs: float32 [B, m], their log-probabilities at T = 1, nats; at least the tail's highest less 600 times
            the temperature.
        threshold: float32 [B], nats: the log-probability at T = 1 from which on a class of the tail is certain to be
            drawn; others are with probability exp((logprob - threshold) / temperature).
        temperature: at which the tail's probabilities are those of being drawn; no temperature held is above it.
    """

    classes: Int[Tensor, "B m"]
    logprobs: Float[Tensor, "B m"]
    threshold: Float[Tensor, "B"]
    temperature: float

    @classmethod
    def draw(
        cls, logprobs: Float[Tensor, "B C"], num: int, temperature: float, uniforms: Float64[Tensor, "B"]
    ) -> TailSample:
        """Draw a fixed number of each row's classes without replacement, by their probabilities at a temperature.

        With x = exp(logprob / temperature), a class is drawn with probability min(1, x / t); the threshold t makes
        these sum to `num`. Classes of at least t are certain. The others lie side by side in the order of their
        numbers, each as long as its probability; the points u, u + 1, u + 2, ... draw those that they hit (Madow
        1949). A class is shorter than the points are apart, so none is drawn twice, and a u that falls evenly into
        [0, 1) hits it with its probability. If all classes are certain, the threshold is the least of theirs.

        Args:
            logprobs: [B, C], nats; -inf for classes that are not in the tail.
            num: m, classes to draw, at least 1 and at most as many as each row's tail has.
            temperature: of the probabilities.
            uniforms: float64 [B], u of each row, in [0, 1).
        """
        scaled = logprobs.detach().double() / temperature
        top = scaled.amax(dim=1, keepdim=True)
        # Far below, nothing is left of an exponential; any number of classes can be drawn all the same. The sample's
        # log-probabilities are clamped alike: they state with which probabilities its classes were drawn.
        share = (scaled - top).clamp(min=_DEEPEST).exp().masked_fill(scaled == -torch.inf, 0.0)
        threshold = _threshold(share, num)
        certain = share >= threshold * _CERTAIN
        # Where nothing is left to chance, all that the tail has is drawn, however improbable.
        everything = torch.isfinite(scaled).sum(dim=1, keepdim=True) <= num
        certain = torch.where(everything, torch.isfinite(scaled), certain)
        log_threshold = (threshold.log() + top)[:, 0] * temperature
        lowest = ((top + _DEEPEST) * temperature).to(logprobs.dtype)
        least = logprobs.detach().double().masked_fill(~certain, torch.inf).amin(dim=1)
        classes = _systematic(share / threshold, certain, num, uniforms)
        return cls(
            classes=classes,
            logprobs=torch.maximum(logprobs.gather(1, classes), lowest),
            threshold=torch.where(everything[:, 0], least, log_threshold).to(logprobs.dtype),
            temperature=temperature,
        )

    @property
    def num(self) -> int:
        """How many classes of each row were drawn, m."""
        return self.classes.shape[-1]

    def log_inclusion(self) -> Float[Tensor, "B m"]:
        """The log of the probability with which each of the classes was drawn."""
        return ((self.logprobs - self.threshold[:, None]) / self.temperature).clamp(max=0)

    def check(self, num_rows: int, temperatures: Sequence[float]) -> None:
        """Raise SignalError unless shapes and kinds fit so many rows, and the temperature those that are held."""
        of_classes = [num_rows, self.num]
        check_fields(self, {"classes": of_classes, "logprobs": of_classes, "threshold": [num_rows]})
        if not max(temperatures, default=0) <= self.temperature < math.inf:
            raise SignalError(
                f"TailSample.temperature: found {self.temperature}, wanted a finite number of at least the "
                f"temperatures held, {list(temperatures)}"
            )

    def faults(
        self, held: Int[Tensor, "B S"], last_logprobs: Float[Tensor, "B 1"], num_classes: int, tolerance: float
    ) -> Faults:
        """What can be wrong with its numbers.

        Args:
            held: the classes that are not in the tail.
            last_logprobs: the log-probability of the least probable of the top k.
            num_classes: C.
            tolerance: by how much log-probabilities may be off, nats.
        """
        classes, logprobs = self.classes, self.logprobs
        return {
            "tail classes outside 0..C-1": (classes < 0) | (classes >= num_classes),
            "tail classes that do not ascend": classes[:, 1:] <= classes[:, :-1],
            "a tail class that is among the top k or the label": (classes[:, :, None] == held[:, None]).any(dim=2),
            "tail log-probabilities that are not finite": ~torch.isfinite(logprobs),
            "tail thresholds that are not finite": ~torch.isfinite(self.threshold),
            "a tail class more probable than the last of the top k": logprobs > last_logprobs + tolerance,
            "a tail class that could not have been drawn": ~(self.log_inclusion() >= LEAST_LOG_INCLUSION),
        }


def tail_uniforms(keys: Sequence[str], view: int, seed: int) -> Float64[Tensor, "B"]:
    """A number in [0, 1) for each sample's view, by which its tail is drawn: a pure function of seed, key and view."""
    numbers = [choice(2**53, f"tail/{seed}/{view}/{key}") for key in keys]
    return torch.tensor(numbers, dtype=torch.float64) / 2**53


def check_tail_samples(num: int, k: int, num_classes: int, *, labelled: bool) -> None:
    """Raise SignalError unless every sample's tail has at least `num` classes, and `num` is at least 1."""
    most = num_classes - k - labelled
    if not 1 <= num <= most:
        outside = "the top k and the label" if labelled else "the top k"
        if most < 1:
            raise SignalError(
                f"tail_samples = {num}: wanted 0, as k = {k} of {num_classes} leaves no class that is certain to be "
                f"outside {outside}; leave it out, or choose a smaller k"
            )
        raise SignalError(
            f"tail_samples = {num}: wanted 1 to {most}, as many classes as are certain to be outside {outside}: "
            f"k = {k} of {num_classes}. k = {num_classes} keeps every class, without a tail"
        )


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
