"""TopK: a teacher's top-k signal, and how to make it from dense logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from pld.errors import SignalError
from pld.signals import checks
from pld.signals.dense import check_logits, log_probabilities, outside, tail_masses
from pld.signals.kept_error import check_error, fewest_classes, joined_tails
from pld.signals.records import check_fields, with_tensors
from pld.signals.tail_sample import TailSample, check_tail_samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopK:
    """A teacher's k most probable classes per sample, the label's log-probability and the mass of the tail.

    S is the top-k and the label, or the top-k alone where the images have no labels; the tail is every class outside S.

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
        tail_sample: m classes drawn from the tail, which make KD unbiased: `TailSample` proves it; None without.
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
    tail_sample: TailSample | None = None
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
            uniforms: float64 [B], in [0, 1), what the classes are drawn by; `tail_uniforms` makes them of keys. None
                draws them from torch's generator.
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
        check_logits(logits, labels, k)
        topk = cls.from_checked_logits(logits, labels, k, temperatures)
        if error is not None:
            topk = topk.keep_error(error, logprob_error)
        if not tail_samples:
            return topk
        check_tail_samples(tail_samples, k, logits.shape[1], labelled=labels is not None)
        if uniforms is None:
            uniforms = torch.rand(len(logits), dtype=torch.float64)
        return topk.draw_tail(logits, tail_samples, uniforms)

    @classmethod
    def from_checked_logits(
        cls, logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"] | None, k: int, temperatures: Sequence[float]
    ) -> TopK:
        """`from_logits` without the checks of values, which would synchronise with an accelerator."""
        logprobs = log_probabilities(logits)
        # A stable sort of the logits, unlike topk, promises the order of ties: the lower class first.
        classes = torch.sort(logits, dim=1, descending=True, stable=True).indices[:, :k].contiguous()
        return cls(
            classes=classes,
            logprobs=logprobs.gather(1, classes),
            labels=labels,
            label_logprob=None if labels is None else logprobs.gather(1, labels[:, None])[:, 0],
            tail_logmass=tail_masses(logprobs, classes, labels, temperatures),
            temperatures=tuple(float(t) for t in temperatures),
        )

    def draw_tail(self, logits: Float[Tensor, "B C"], num: int, uniforms: Float64[Tensor, "B"]) -> TopK:
        """The same with a sampled tail of `num` classes, from the logits that it was made of."""
        in_tail = outside(log_probabilities(logits), self.classes, self.labels)
        sample = TailSample.draw(in_tail, num, max(self.temperatures), uniforms.to(logits.device))
        return dataclasses.replace(self, tail_sample=sample)

    def keep_error(self, error: float, logprob_error: float = 0.0) -> TopK:
        """The same with as few classes a row as keep PLD's gradient error bound at T = 1 at most `error`, at least one.

        The others join the tail, except the label. A tail sample is dropped: it was drawn from the smaller tail. A row
        that all its classes do not bring under the error keeps them. The bound holds also after rounding, see
        `fewest_classes`.

        Args:
            error: L1, above what the rounding alone costs, 4 tanh(logprob_error / 2), and below 2.
            logprob_error: the rounding to come, nats.

        Raises:
            SignalError: no number of classes can keep this error, or any can; or the tail is not held at T = 1.
        """
        check_error(error, logprob_error)
        left_out = self.logprobs.double()
        if self.labels is not None:
            left_out = left_out.masked_fill(self.classes == self.labels[:, None], -torch.inf)
        counts = fewest_classes(joined_tails(self.tail_at(1.0), left_out), error, logprob_error)
        if self.counts is not None:
            counts = torch.minimum(counts, self.counts)
        joined = [joined_tails(self.tail_at(t), left_out / t).gather(1, counts[:, None] - 1) for t in self.temperatures]
        tail_logmass = torch.cat(joined, dim=1).to(self.tail_logmass.dtype)
        return dataclasses.replace(self.list_only(counts), tail_logmass=tail_logmass, tail_sample=None)

    def list_only(self, counts: Int[Tensor, "B"]) -> TopK:
        """The same with padding after the first `counts`, int64 [B], classes of each row; the tails are left alone."""
        padding = torch.arange(self.k, device=counts.device) >= counts[:, None]
        return dataclasses.replace(
            self,
            classes=torch.where(padding, self.classes[:, :1], self.classes),
            logprobs=self.logprobs.masked_fill(padding, -torch.inf),
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

    @property
    def tail_samples(self) -> int:
        """How many classes each sample's tail was drawn, m; 0 without a sampled tail."""
        return 0 if self.tail_sample is None else self.tail_sample.num

    def holds_all(self, num_classes: int) -> bool:
        """Whether every row lists every class by construction, so that there is no tail at any temperature."""
        return self.k == num_classes and self.counts is None

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
        if fault := self.fault(num_classes, checks.TOLERANCE + self.logprob_error):
            raise SignalError(f"TopK of {num_classes} classes: found {fault}; build the signal with TopK.from_logits")

    def fault(self, num_classes: int, tolerance: float) -> str | None:
        """Describe why these are not valid probabilities at T = 1, and the first bad row; None if they are valid.

        Args:
            num_classes: C.
            tolerance: by how much log-probabilities, and the logarithm of their sum, may be off, nats.
        """
        if self.counts is not None and bool(((self.counts < 1) | (self.counts > self.k)).any()):
            return f"counts outside 1..{self.k}"  # what follows looks at the last class that a row lists
        listed = None if self.counts is None else self.listed
        faults = checks.class_faults(self.classes, self.logprobs, listed, num_classes)
        faults |= checks.tail_faults(self.tail_logmass, self.temperatures, num_classes, tolerance)
        held, others = self.classes, [self.tail_at(1.0)] if 1.0 in self.temperatures else []
        if self.labels is not None and self.label_logprob is not None:
            is_label = self.classes == self.labels[:, None]
            if listed is not None:
                is_label &= listed
            of_labels = (self.labels, self.label_logprob, self.logprobs, is_label, self.last_logprobs)
            faults |= checks.label_faults(*of_labels, num_classes, tolerance)
            held = torch.cat([held, self.labels[:, None]], dim=1)
            others.append(self.label_logprob.masked_fill(is_label.any(dim=1), -torch.inf))
        if self.tail_sample is not None:
            faults |= self.tail_sample.faults(held, self.last_logprobs, num_classes, tolerance)
        if self.holds_all(num_classes) or 1.0 in self.temperatures:
            faults |= checks.sum_faults(self.logprobs, others, tolerance)
        return checks.first_fault(faults)

    def check_shapes(self, num_classes: int) -> None:
        """Raise SignalError unless shapes and kinds fit each other, k is in 1..C and the plain numbers make sense."""
        rows, k = self.classes.shape[0], self.classes.shape[-1]
        if (self.labels is None) != (self.label_logprob is None):
            raise SignalError("TopK: found one of labels and label_logprob without the other, wanted both or neither")
        shapes = {"classes": [rows, k], "logprobs": [rows, k], "tail_logmass": [rows, len(self.temperatures)]}
        check_fields(self, shapes | {"labels": [rows], "label_logprob": [rows], "counts": [rows]})
        if not 1 <= k <= num_classes:
            raise SignalError(f"TopK.classes: found shape {[rows, k]}, wanted k from 1 to {num_classes}")
        if self.tail_sample is not None:
            self.tail_sample.check(rows, self.temperatures)
            check_tail_samples(self.tail_samples, k, num_classes, labelled=self.labels is not None)
        checks.check_numbers(self.logprob_error, self.temperatures)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TopK:
        """The same signal on another device."""
        return with_tensors([self], lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> TopK:
        """A copy in pinned memory, for asynchronous copies to a GPU."""
        return with_tensors([self], Tensor.pin_memory)
