"""TopK: a teacher's top-k signal, and how to make it from dense logits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from pld.errors import SignalError
from pld.tail_sample import LEAST_LOG_INCLUSION, draw_tail, log_inclusion

# How far off log-probabilities may be, nats; float32's log-softmax over a million classes is well within.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixedLabels:
    """The labels of mixed images (mixup, CutMix): what losses take in place of labels.

    Attributes:
        labels: int64 [B], of the image with the larger share; a TopK's are these.
        others: int64 [B], of the other image; any class where the share is 1.
        share: float32 [B], of the first image, 0.5 to 1.
    """

    labels: Int[Tensor, "B"]
    others: Int[Tensor, "B"]
    share: Float[Tensor, "B"]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> MixedLabels:
        """The same on another device."""
        return MixedLabels(
            labels=self.labels.to(device, non_blocking=non_blocking),
            others=self.others.to(device, non_blocking=non_blocking),
            share=self.share.to(device, non_blocking=non_blocking),
        )


def larger_share(labels: Int[Tensor, "B"] | MixedLabels | None) -> Int[Tensor, "B"] | None:
    """The labels of images, int64 [B]; of mixed ones, those of the image with the larger share."""
    return labels.labels if isinstance(labels, MixedLabels) else labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopK:
    """A teacher's k most probable classes per sample, the label's log-probability and the mass of the tail.

    S is the top-k and the label, or the top-k alone where the images have no labels; the tail is every class outside S.

    A sampled tail adds m classes of it, each drawn with a known probability. They make KD unbiased at every temperature
    that is held. With p(c) the teacher's probability at it, I(c) = 1 for the classes drawn and 0 for others,
    pi(c) = E I(c), M the tail's mass, n its number of classes, and r = M / n, let

        p'(c) = r + (p(c) - r) * I(c) / pi(c)   for c in the tail,   p'(c) = p(c)   for c in S.

    M, and so r, is held, not estimated; I alone is random, and pi(c) > 0 for every c: E p'(c) = p(c). A divergence
    is linear in the teacher's probabilities but for their entropy, which no student changes: its gradient with respect
    to the student's logits is (q - p) / T, which p' replaces by (q - p') / T, of mean (q - p) / T. The error of p' is
    0 in S, and in the tail its mean square is the sum of (p(c) - r)^2 * (1 - pi(c)) / pi(c), as I(c)^2 = I(c)
    (Horvitz and Thompson 1952; difference estimator). p'(c) may be negative, and is no distribution by itself.

    Attributes:
        classes: int64 [B, k], most probable first; ties have the lower class first.
        logprobs: float32 [B, k], log-probabilities of `classes` at T = 1, in nats.
        labels: int64 [B], the true classes; None for images without labels.
        label_logprob: float32 [B], the labels' log-probabilities at T = 1, wherever they rank; None without labels.
        tail_logmass: float32 [B, T], log of the sum over the tail of exp(logprob / t) for each of `temperatures`;
            -inf where the tail is empty.
        temperatures: the T temperatures that `tail_logmass` holds.
        logprob_error: the largest rounding of any log-probability, in nats; 0 when not rounded.
        unsettled: bool [B, k], which of `classes` may have another rank in truth; None where all ranks are certain, as
            a single teacher's are.
        tail_classes: int64 [B, m], classes drawn from the tail, ascending; None without a sampled tail, as the next.
        tail_logprobs: float32 [B, m], their log-probabilities at T = 1, nats.
        tail_threshold: float32 [B], nats: the log-probability at T = 1 from which on a class of the tail is certain to
            be drawn; others are with probability exp((logprob - threshold) / tail_temperature).
        tail_temperature: at which the tail's probabilities are those of being drawn; no temperature held is above it.
        counts: int64 [B], 1..k, how many of `classes` each row lists, where rows list as many as an error asks for;
            the columns after them are padding: they repeat the first class, with a log-probability of -inf, and belong
            to no set. None where every row lists k.
    """

    classes: Int[Tensor, "B k"]
    logprobs: Float[Tensor, "B k"]
    labels: Int[Tensor, "B"] | None
    label_logprob: Float[Tensor, "B"] | None
    tail_logmass: Float[Tensor, "B T"]
    temperatures: tuple[float, ...]
    logprob_error: float = 0.0
    unsettled: Bool[Tensor, "B k"] | None = None
    tail_classes: Int[Tensor, "B m"] | None = None
    tail_logprobs: Float[Tensor, "B m"] | None = None
    tail_threshold: Float[Tensor, "B"] | None = None
    tail_temperature: float | None = None
    counts: Int[Tensor, "B"] | None = None

    @classmethod
    def from_logits(
        cls,
        logits: Float[Tensor, "B C"],
        labels: Int[Tensor, "B"] | None,
        k: int,
        temperatures: Sequence[float] = (1.0,),
        *,
        tail_samples: int = 0,
        uniforms: Float64[Tensor, "B"] | None = None,
        error: float | None = None,
        logprob_error: float = 0.0,
    ) -> TopK:
        """Keep the k most probable classes of a dense teacher.

        Args:
            logits: [B, C] of any floating dtype; worked on in float32 (float64 stays).
            labels: int64 [B], in 0..C-1; None for images without labels.
            k: classes to keep, 1..C; k = C is exact and has no tail.
            temperatures: temperatures at which the tail's mass is kept.
            tail_samples: m, classes to draw from the tail, by their probabilities at the largest of the temperatures.
            uniforms: float64 [B], in [0, 1), what the classes are drawn by; `pld.tail_sample.tail_uniforms` makes
                them of keys. None draws them from torch's generator.
            error: keep of each row no more of the k classes than bring PLD's gradient error at T = 1 to this, see
                `keep_error`; None keeps all k.
            logprob_error: by how much log-probabilities will be rounded, nats, which `error` makes room for.

        Raises:
            SignalError: k is not in 1..C, a label is not in 0..C-1, a logit is not finite, or the tail has fewer than
                m classes.

        Example:
            >>> logits, labels = torch.tensor([[4.0, 2.0, 0.0, 0.0]]), torch.tensor([3])
            >>> topk = TopK.from_logits(logits, labels, k=2, temperatures=(1.0, 2.0))
            >>> topk.classes.tolist(), topk.labels.tolist()
            ([[0, 1]], [3])
            >>> topk.tail_at(1.0).exp()  # what class 2 has: the label is no part of the tail
            tensor([0.0156])
        """
        num_classes = logits.shape[1]
        if not 1 <= k <= num_classes:
            raise SignalError(f"k = {k}: the teacher has {num_classes} classes; choose k from 1 to {num_classes}")
        if labels is not None and labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
            raise SignalError(
                f"labels: found {int(labels.min())}..{int(labels.max())}, wanted 0..{num_classes - 1} for logits "
                f"of shape {list(logits.shape)}"
            )
        if not bool(torch.isfinite(logits).all()):
            raise SignalError(f"logits of shape {list(logits.shape)}: found inf or nan, wanted finite values")
        topk = cls.from_checked_logits(logits, labels, k, temperatures)
        if error is not None:
            topk = topk.keep_error(error, logprob_error)
        if not tail_samples:
            return topk
        check_tail_samples(tail_samples, k, num_classes, labelled=labels is not None)
        if uniforms is None:
            uniforms = torch.rand(len(logits), dtype=torch.float64)
        return topk.draw_tail(logits, tail_samples, uniforms)

    @classmethod
    def from_checked_logits(
        cls, logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"] | None, k: int, temperatures: Sequence[float]
    ) -> TopK:
        """`from_logits` without the checks of values, which would synchronise with an accelerator."""
        logprobs = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=1)
        # A stable sort of the logits, unlike topk, promises the order of ties: the lower class first.
        classes = torch.sort(logits, dim=1, descending=True, stable=True).indices[:, :k].contiguous()
        tail = logprobs[:, :0]
        if temperatures:
            outside = logprobs.scatter(1, classes, -torch.inf)
            if labels is not None:
                outside.scatter_(1, labels[:, None], -torch.inf)
            tail = torch.stack([torch.logsumexp(outside / t, dim=1) for t in temperatures], dim=1)
        return cls(
            classes=classes,
            logprobs=logprobs.gather(1, classes),
            labels=labels,
            label_logprob=None if labels is None else logprobs.gather(1, labels[:, None])[:, 0],
            tail_logmass=tail,
            temperatures=tuple(float(t) for t in temperatures),
        )

    def draw_tail(self, logits: Float[Tensor, "B C"], num: int, uniforms: Float64[Tensor, "B"]) -> TopK:
        """The same with a sampled tail of `num` classes, from the logits that it was made of."""
        logprobs = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=1)
        outside = logprobs.scatter(1, self.classes, -torch.inf)
        if self.labels is not None:
            outside.scatter_(1, self.labels[:, None], -torch.inf)
        temperature = max(self.temperatures)
        classes, threshold = draw_tail(outside, num, temperature, uniforms.to(logits.device))
        return dataclasses.replace(
            self,
            tail_classes=classes,
            tail_logprobs=logprobs.gather(1, classes),
            tail_threshold=threshold.to(logprobs.dtype),
            tail_temperature=temperature,
        )

    def keep_error(self, error: float, logprob_error: float = 0.0) -> TopK:
        """The same with as few classes a row as keep PLD's gradient error bound at T = 1 at most `error`, at least one.

        The others join the tail, the label excepted. A row that all its classes do not bring under the error keeps
        them. The bound is `gradient_error_bound`'s, also after each log-probability and the tail moved by up to
        `logprob_error`: that takes a mass q outside the classes to at most q e^2d / (1 - q + q e^2d).

        Args:
            error: L1, above what the rounding alone costs, 4 tanh(logprob_error / 2), and below 2.
            logprob_error: the rounding to come, nats.

        Raises:
            SignalError: no number of classes can keep this error, or any can; or the tail is not held at T = 1.
        """
        check_error(error, logprob_error)
        left_out = self.logprobs.double().masked_fill(~self.listed, -torch.inf)
        if self.labels is not None:
            left_out = left_out.masked_fill(self.classes == self.labels[:, None], -torch.inf)

        def tails(temperature: float) -> Float64[Tensor, "B k"]:
            """The tail's log mass if 1, 2, ..., k classes are kept."""
            columns = torch.cat([self.tail_at(temperature).double()[:, None], left_out.flip(1) / temperature], dim=1)
            return columns.logcumsumexp(dim=1)[:, :-1].flip(1)

        mass = tails(1.0).exp() * math.exp(2 * logprob_error)
        outside = mass / (1 - tails(1.0).exp() + mass)
        too_few = 2 * outside + rounding_error(logprob_error) > error
        counts = (too_few.sum(dim=1) + 1).clamp(max=self.k)
        if self.counts is not None:
            counts = torch.minimum(counts, self.counts)
        joined = [tails(t).gather(1, counts[:, None] - 1) for t in self.temperatures]
        padding = torch.arange(self.k, device=counts.device) >= counts[:, None]
        return dataclasses.replace(
            self.without_tail_sample(),
            classes=torch.where(padding, self.classes[:, :1], self.classes),
            logprobs=self.logprobs.masked_fill(padding, -torch.inf),
            tail_logmass=torch.cat(joined, dim=1).to(self.tail_logmass.dtype),
            counts=counts,
        )

    @property
    def k(self) -> int:
        """How many classes each sample keeps; the most, where `counts` says how many."""
        return self.classes.shape[1]

    @property
    def listed(self) -> Bool[Tensor, "B k"]:
        """Which of `classes` count: all but the padding of rows that list fewer than k."""
        if self.counts is None:
            return torch.ones_like(self.classes, dtype=torch.bool)
        return torch.arange(self.k, device=self.counts.device) < self.counts[:, None]

    @property
    def last_logprobs(self) -> Float[Tensor, "B 1"]:
        """The log-probability of the least probable class that each row lists."""
        return self.logprobs[:, -1:] if self.counts is None else self.logprobs.gather(1, self.counts[:, None] - 1)

    def holds_all(self, num_classes: int) -> bool:
        """Whether every row lists every class by construction, so that there is no tail at any temperature."""
        return self.k == num_classes and self.counts is None

    @property
    def tail_samples(self) -> int:
        """How many classes each sample's tail was drawn, m; 0 without a sampled tail."""
        return 0 if self.tail_classes is None else self.tail_classes.shape[1]

    def without_tail_sample(self) -> TopK:
        """The same without its sampled tail."""
        return dataclasses.replace(
            self, tail_classes=None, tail_logprobs=None, tail_threshold=None, tail_temperature=None
        )

    def tail_log_inclusion(self) -> Float[Tensor, "B m"]:
        """The log of the probability with which each of `tail_classes` was drawn; SignalError without them."""
        if self.tail_logprobs is None or self.tail_threshold is None or self.tail_temperature is None:
            raise SignalError("TopK: found no sampled tail; TopK.from_logits(..., tail_samples=m) draws one")
        return log_inclusion(self.tail_logprobs, self.tail_threshold, self.tail_temperature)

    def tail_at(self, temperature: float) -> Float[Tensor, "B"]:
        """The tail's log mass at one temperature, [B]; raises SignalError where it is not held."""
        if temperature not in self.temperatures:
            held = ", ".join(f"{t:g}" for t in self.temperatures)
            raise SignalError(f"temperature {temperature:g}: this teacher's signal holds {held}")
        return self.tail_logmass[:, self.temperatures.index(temperature)]

    def validate(self, num_classes: int) -> None:
        """Check what a TopK promises: one sort of k classes a row, which is cheap enough for every batch.

        Args:
            num_classes: C of the teacher.

        Raises:
            SignalError: names what is wrong, and the first row of it.
        """
        self.check_shapes(num_classes)
        if fault := self.fault(num_classes, TOLERANCE + self.logprob_error):
            raise SignalError(f"TopK of {num_classes} classes: found {fault}; build the signal with TopK.from_logits")

    def fault(self, num_classes: int, tolerance: float) -> str | None:
        """Describe why these are not valid probabilities at T = 1, and the first bad row; None if they are valid.

        Args:
            num_classes: C.
            tolerance: by how much log-probabilities, and the logarithm of their sum, may be off, nats.
        """
        if self.counts is not None and bool(((self.counts < 1) | (self.counts > self.k)).any()):
            return f"counts outside 1..{self.k}"  # what follows looks at the last class that a row lists
        classes, logprobs, listed = self.classes, self.logprobs, self.listed
        # Padding gets numbers that no class has.
        ordered = torch.where(listed, classes, -1 - torch.arange(self.k, device=classes.device)).sort(dim=1).values
        faults = {
            "padding that is not the first class with a log-probability of -inf": ~listed
            & ((classes != classes[:, :1]) | (logprobs != -torch.inf)),
            "classes outside 0..C-1": (classes < 0) | (classes >= num_classes),
            "a class twice in a row": ordered[:, 1:] == ordered[:, :-1],
            "log-probabilities that are not finite": ~torch.isfinite(logprobs) & listed,
            "tails that are nan or +inf": ~(self.tail_logmass < torch.inf),
            "log-probabilities that rise with the rank": logprobs[:, 1:] > logprobs[:, :-1],
            "tails of more mass than C classes can have": self._tail_excess(num_classes) > tolerance,
            **self._label_faults(num_classes, tolerance),
            **self._tail_sample_faults(num_classes, tolerance),
            "probabilities that do not sum to 1": ~(self._mass(num_classes).log().abs() <= tolerance),
        }
        for fault, mask in faults.items():
            if bool(mask.any()):
                return f"{fault}, first in row {int(mask.reshape(len(mask), -1).any(dim=1).nonzero()[0])}"
        return None

    def _label_faults(self, num_classes: int, tolerance: float) -> dict[str, Tensor]:
        """What can be wrong with the labels: a mask for each fault; nothing without labels."""
        if self.labels is None or self.label_logprob is None:
            return {}
        label, is_label = self.label_logprob[:, None], (self.classes == self.labels[:, None]) & self.listed
        off = (self.logprobs - label).abs() > tolerance
        above = self.label_logprob > self.last_logprobs[:, 0] + tolerance
        return {
            "labels outside 0..C-1": (self.labels < 0) | (self.labels >= num_classes),
            "labels whose log-probability is not finite": ~torch.isfinite(label),
            "a label whose log-probability is not that of its entry": is_label & off,
            "a label outside the top k that is more probable than its last class": ~is_label.any(dim=1) & above,
        }

    def _tail_sample_faults(self, num_classes: int, tolerance: float) -> dict[str, Tensor]:
        """What can be wrong with a sampled tail: a mask for each fault; nothing without one."""
        drawn, logprobs, threshold = self.tail_classes, self.tail_logprobs, self.tail_threshold
        if drawn is None or logprobs is None or threshold is None:
            return {}
        held = self.classes if self.labels is None else torch.cat([self.classes, self.labels[:, None]], dim=1)
        return {
            "tail classes outside 0..C-1": (drawn < 0) | (drawn >= num_classes),
            "tail classes that do not ascend": drawn[:, 1:] <= drawn[:, :-1],
            "a tail class that is among the top k or the label": (drawn[:, :, None] == held[:, None]).any(dim=2),
            "tail log-probabilities that are not finite": ~torch.isfinite(logprobs),
            "tail thresholds that are not finite": ~torch.isfinite(threshold),
            "a tail class more probable than the last of the top k": logprobs > self.last_logprobs + tolerance,
            "a tail class that could not have been drawn": ~(self.tail_log_inclusion() >= LEAST_LOG_INCLUSION),
        }

    def check_shapes(self, num_classes: int) -> None:
        """Raise SignalError unless shapes and kinds fit each other, k is in 1..C and the plain numbers make sense."""
        rows, k = self.classes.shape[0], self.classes.shape[-1]
        if (self.labels is None) != (self.label_logprob is None):
            raise SignalError("TopK: found one of labels and label_logprob without the other, wanted both or neither")
        of_label = {} if self.labels is None else {"labels": [rows], "label_logprob": [rows]}
        wanted = {
            "classes": [rows, k],
            "logprobs": [rows, k],
            **of_label,
            **({} if self.counts is None else {"counts": [rows]}),
            **self._tail_sample_shapes(rows),
            "tail_logmass": [rows, len(self.temperatures)],
        }
        for name, shape in wanted.items():
            found = getattr(self, name)
            is_float = "log" in name or name == "tail_threshold"
            if list(found.shape) != shape or found.is_floating_point() != is_float:
                kind = "floating point" if is_float else "int64"
                raise SignalError(
                    f"TopK.{name}: found {found.dtype} of shape {list(found.shape)}, wanted {kind} of {shape}"
                )
        if not 1 <= k <= num_classes:
            raise SignalError(f"TopK.classes: found shape {[rows, k]}, wanted k from 1 to {num_classes}")
        if self.tail_classes is not None:
            check_tail_samples(self.tail_samples, k, num_classes, labelled=self.labels is not None)
        self.check_numbers()

    def _tail_sample_shapes(self, rows: int) -> dict[str, list[int]]:
        """The shapes of a sampled tail; raises SignalError where only some of it is there."""
        parts = (self.tail_classes, self.tail_logprobs, self.tail_threshold, self.tail_temperature)
        if all(part is None for part in parts):
            return {}
        if any(part is None for part in parts):
            raise SignalError(
                "TopK: found some of tail_classes, tail_logprobs, tail_threshold, tail_temperature, wanted all or none"
            )
        of_classes = [rows, self.tail_samples]
        return {"tail_classes": of_classes, "tail_logprobs": of_classes, "tail_threshold": [rows]}

    def check_numbers(self) -> None:
        """Raise SignalError unless `logprob_error` is finite and at least 0, and the temperatures finite and above 0.

        As a tolerance, an infinite rounding would accept anything; a bound would be nan or inf.
        """
        if not 0 <= self.logprob_error < math.inf:
            raise SignalError(
                f"TopK.logprob_error: found {self.logprob_error}, wanted a finite number, nats, 0 or more"
            )
        if not all(0 < t < math.inf for t in self.temperatures):
            raise SignalError(f"TopK.temperatures: found {list(self.temperatures)}, wanted finite numbers above 0")
        drawn_at = self.tail_temperature
        if drawn_at is not None and not max(self.temperatures, default=0) <= drawn_at < math.inf:
            raise SignalError(
                f"TopK.tail_temperature: found {drawn_at}, wanted a finite number of at least the temperatures held, "
                f"{list(self.temperatures)}"
            )

    def _tail_excess(self, num_classes: int) -> Float[Tensor, "B T"]:
        """By how much t * tail_logmass is above that of the uniform distribution, or of certainty below t = 1."""
        temperatures = torch.tensor(self.temperatures, dtype=torch.float64, device=self.tail_logmass.device)
        most = (temperatures - 1).clamp(min=0) * math.log(num_classes)
        return self.tail_logmass.double() * temperatures - most

    def _mass(self, num_classes: int) -> Float[Tensor, "B"]:
        """Top-k + label + tail at T = 1; 1 where the tail is not known at T = 1."""
        if not self.holds_all(num_classes) and 1.0 not in self.temperatures:
            return torch.ones_like(self.logprobs[:, 0])
        mass = self.logprobs.double().exp().sum(dim=1)
        if self.labels is not None and self.label_logprob is not None:
            outside = (self.classes != self.labels[:, None]).all(dim=1)
            mass = mass + torch.where(outside, self.label_logprob.double().exp(), 0.0)
        return mass + self.tail_at(1.0).double().exp() if 1.0 in self.temperatures else mass

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TopK:
        """The same signal on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> TopK:
        """A copy in pinned memory, for asynchronous copies to a GPU."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> TopK:
        tensors = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed: dict[str, Any] = {n: change(value) for n, value in tensors.items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **changed)


def rounding_error(logprob_error: float, temperature: float = 1.0) -> float:
    """What rounding log-probabilities by at most so many nats adds to the bound of PLD's gradient, L1."""
    return 4 * math.tanh(logprob_error / (2 * temperature))


def check_error(error: float, logprob_error: float) -> None:
    """Raise SignalError unless a bound of PLD's gradient error is above what rounding alone costs, and below 2."""
    least = rounding_error(logprob_error)
    if not least < error < 2:
        cost = f", what rounding to the store's grid costs alone ({least:.4g})" if least else ""
        raise SignalError(
            f"error = {error}: wanted a number above 0{cost} and below 2, which is the most that any k costs: the L1 "
            "error of PLD's gradient for each sample, such as 0.03"
        )


def check_tail_samples(num: int, k: int, num_classes: int, *, labelled: bool) -> None:
    """Raise SignalError unless every sample's tail has at least `num` classes, and `num` is at least 1."""
    most = num_classes - k - labelled
    if not 1 <= num <= most:
        outside = "the top k and the label" if labelled else "the top k"
        raise SignalError(
            f"tail_samples = {num}: wanted 1 to {most}, as many classes as are sure to be outside {outside}: k = {k} "
            f"of {num_classes}. k = {num_classes} keeps every class, without a tail"
        )
