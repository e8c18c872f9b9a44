"""TopK: what a loss knows of a teacher, and how a dense teacher becomes one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pld.errors import SignalError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopK:
    """A teacher's k most probable classes per sample, and what is needed to weigh everything else exactly.

    S is the top-k and the label; the tail is every class outside S.

    Attributes:
        classes: int64 [B, k], most probable first; ties have the lower class first.
        logprobs: float32 [B, k], log-probabilities of `classes` at T = 1, in nats.
        labels: int64 [B], the true classes.
        label_logprob: float32 [B], the labels' log-probabilities at T = 1, wherever they rank.
        tail_logmass: float32 [B, T], log of the sum over the tail of exp(logprob / t) for each of `temperatures`;
            -inf where the tail is empty.
        temperatures: the T temperatures that `tail_logmass` holds.
        logprob_error: the largest rounding of any log-probability, in nats; 0 when not rounded.
    """

    classes: Int[Tensor, "B k"]
    logprobs: Float[Tensor, "B k"]
    labels: Int[Tensor, "B"]
    label_logprob: Float[Tensor, "B"]
    tail_logmass: Float[Tensor, "B T"]
    temperatures: tuple[float, ...]
    logprob_error: float = 0.0

    @classmethod
    def from_logits(
        cls,
        logits: Float[Tensor, "B C"],
        labels: Int[Tensor, "B"],
        k: int,
        temperatures: Sequence[float] = (1.0,),
    ) -> TopK:
        """Keep the k most probable classes of a dense teacher.

        Args:
            logits: [B, C] of any floating dtype; worked on in float32 (float64 stays).
            labels: int64 [B], in 0..C-1.
            k: classes to keep, 1..C; k = C is exact and has no tail.
            temperatures: temperatures at which the tail's mass is kept.

        Raises:
            SignalError: k is not in 1..C, a label is not in 0..C-1, or a logit is not finite.
        """
        num_classes = logits.shape[1]
        if not 1 <= k <= num_classes:
            raise SignalError(f"k = {k}: the teacher has {num_classes} classes; choose k from 1 to {num_classes}")
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
            raise SignalError(
                f"labels: found {int(labels.min())}..{int(labels.max())}, wanted 0..{num_classes - 1} for logits "
                f"of shape {list(logits.shape)}"
            )
        if not bool(torch.isfinite(logits).all()):
            raise SignalError(f"logits of shape {list(logits.shape)}: found inf or nan, wanted finite values")
        logprobs = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=1)
        # A stable sort of the logits, unlike topk, promises the order of ties: the lower class first.
        classes = torch.sort(logits, dim=1, descending=True, stable=True).indices[:, :k].contiguous()
        column = labels[:, None]
        outside = logprobs.scatter(1, classes, -torch.inf).scatter(1, column, -torch.inf)
        tail = torch.stack([torch.logsumexp(outside / t, dim=1) for t in temperatures], dim=1)
        return cls(
            classes=classes,
            logprobs=logprobs.gather(1, classes),
            labels=labels,
            label_logprob=logprobs.gather(1, column)[:, 0],
            tail_logmass=tail,
            temperatures=tuple(float(t) for t in temperatures),
        )

    @property
    def k(self) -> int:
        """How many classes each sample keeps."""
        return self.classes.shape[1]

    def tail_at(self, temperature: float) -> Float[Tensor, "B"]:
        """The tail's log mass at one temperature, [B]; raises SignalError where it is not held."""
        if temperature not in self.temperatures:
            held = ", ".join(f"{t:g}" for t in self.temperatures)
            raise SignalError(f"temperature {temperature:g}: this teacher's signal holds {held}")
        return self.tail_logmass[:, self.temperatures.index(temperature)]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TopK:
        """The same signal on another device."""
        moved = {
            field.name: getattr(self, field.name).to(device, non_blocking=non_blocking)
            for field in dataclasses.fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **moved)
