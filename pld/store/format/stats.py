"""Sums over a part from which a store's figures follow without reading a chunk."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import torch
from jaxtyping import Float64
from msgspec import Meta
from torch import Tensor

from pld.errors import ConfigError
from pld.signals import TopK, rounding_error
from pld.store.format.canonical import OPTIONAL
from pld.store.format.tail_error import tail_errors
from pld.store.format.typed_json import Number

BINS_PER_OCTAVE = 4
_LOWEST_BIN = -20 * BINS_PER_OCTAVE
_Count = Annotated[int, Meta(ge=0, le=2**40)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartStats:
    """Additive figures of one or more parts.

    Attributes:
        num_rows: sample-views counted.
        num_correct: of them, those whose most probable class is the label; None without labels.
        tail_mass: sum over them of the teacher's mass outside the top-k and the label, T = 1.
        tail_bins: pairs of a bin b and how many of them have a tail mass in (2^((b-1)/4), 2^(b/4)]; the lowest takes
            what is smaller.
        max_logprob: the largest log-probability, nats; None without rows.
        unmapped_mass: sum over them of the model's mass on classes that the dataset does not have, which is no part of
            the teacher's probabilities; 0 where there are none. Taken from the commit: no array holds it.
        tail_errors: of a store with sampled tails, for each of its temperatures the sums over the rows of the mean
            squared error of KD's gradient and of its squared length, as `pld.store.format.tail_error` has them.
        num_listed: of a store with an error, the classes that its rows list, summed; 0 in others, as the next two.
        most_listed: the most that one of them lists.
        num_over_error: how many of them have a gradient error bound above the store's error.
    """

    num_rows: _Count
    num_correct: _Count | None
    tail_mass: Number
    tail_bins: tuple[tuple[Annotated[int, Meta(ge=_LOWEST_BIN, le=0)], _Count], ...]
    max_logprob: Number | None
    unmapped_mass: Number = dataclasses.field(default=0.0, metadata=OPTIONAL)
    tail_errors: tuple[tuple[Number, Number], ...] = dataclasses.field(default=(), metadata=OPTIONAL)
    num_listed: _Count = dataclasses.field(default=0, metadata=OPTIONAL)
    most_listed: _Count = dataclasses.field(default=0, metadata=OPTIONAL)
    num_over_error: _Count = dataclasses.field(default=0, metadata=OPTIONAL)

    def __post_init__(self) -> None:
        if self.num_correct is not None and self.num_correct > self.num_rows:
            raise ConfigError(f"stats: found num_correct = {self.num_correct}, wanted at most {self.num_rows} rows")
        bins = [number for number, _ in self.tail_bins]
        if bins != sorted(set(bins)):
            raise ConfigError(f"stats: found tail_bins {bins[:5]}, ..., wanted each bin once, in ascending order")

    @property
    def relative_tail_errors(self) -> tuple[float, ...]:
        """At each temperature, how far KD's gradient from one view's sampled tail is off, over its length, L2."""
        return tuple(
            math.sqrt(error / length) if error >= 0 < length else math.nan for error, length in self.tail_errors
        )

    @classmethod
    def of(
        cls, views: Sequence[TopK], num_classes: int, unmapped_mass: float = 0.0, error: float | None = None
    ) -> PartStats:
        """The figures of a part's views of a teacher with so many classes, kept for an error if it is not None."""
        mass = torch.cat([view.tail_at(1.0) for view in views]).double().exp()
        bins = torch.ceil(torch.log2(mass) * BINS_PER_OCTAVE).clamp(_LOWEST_BIN, 0)
        top1 = torch.cat([view.logprobs[:, 0] for view in views])
        return cls(
            num_rows=len(mass),
            num_correct=_sum_known([_num_correct(view) for view in views]),
            tail_mass=math.fsum(mass.tolist()),
            tail_bins=tuple(sorted(Counter(int(b) for b in bins.tolist()).items())),
            max_logprob=float(top1.max()) if len(top1) else None,
            unmapped_mass=unmapped_mass,
            tail_errors=_add_pairs([_tail_errors(view, num_classes) for view in views if view.tail_samples]),
            **_counts(views, error),
        )

    @classmethod
    def total(cls, parts: Iterable[PartStats]) -> PartStats:
        """The figures of several parts together."""
        found = list(parts)
        bins: Counter[int] = Counter()
        for part in found:
            bins.update(dict(part.tail_bins))
        return cls(
            num_rows=sum(part.num_rows for part in found),
            num_correct=_sum_known([part.num_correct for part in found]),
            tail_mass=math.fsum(part.tail_mass for part in found),
            tail_bins=tuple(sorted(bins.items())),
            max_logprob=max((part.max_logprob for part in found if part.max_logprob is not None), default=None),
            unmapped_mass=math.fsum(part.unmapped_mass for part in found),
            tail_errors=_add_pairs([part.tail_errors for part in found if part.tail_errors]),
            num_listed=sum(part.num_listed for part in found),
            most_listed=max((part.most_listed for part in found), default=0),
            num_over_error=sum(part.num_over_error for part in found),
        )

    @property
    def accuracy(self) -> float | None:
        """The teacher's top-1 on what it saw, 0..1; nan without rows, None without labels."""
        if self.num_correct is None:
            return None
        return self.num_correct / self.num_rows if self.num_rows else math.nan

    @property
    def mean_tail_mass(self) -> float:
        """The teacher's mean mass outside S at T = 1; nan without rows."""
        return self.tail_mass / self.num_rows if self.num_rows else math.nan

    @property
    def mean_unmapped_mass(self) -> float:
        """The model's mean mass on classes that the dataset does not have, T = 1; nan without rows."""
        return self.unmapped_mass / self.num_rows if self.num_rows else math.nan

    def tail_mass_quantile(self, fraction: float) -> float:
        """An upper bound, at most 2^(1/4) too high, of the tail mass that this fraction of rows does not exceed."""
        seen = 0
        for index, count in self.tail_bins:
            seen += count
            if seen >= fraction * self.num_rows:
                return float(2.0 ** (index / BINS_PER_OCTAVE))
        return math.nan


def _counts(views: Sequence[TopK], error: float | None) -> dict[str, int]:
    """How many classes rows list, and how many rows do not keep the error; nothing without one."""
    if error is None:
        return {}
    counts = torch.cat([view.listed.sum(dim=1) for view in views])
    bounds = [2 * _tail_share(view) + rounding_error(view.logprob_error) for view in views]
    return {
        "num_listed": int(counts.sum()),
        "most_listed": int(counts.max()) if len(counts) else 0,
        "num_over_error": int((torch.cat(bounds) > error).sum()),
    }


def _tail_share(view: TopK) -> Float64[Tensor, "B"]:
    """The tail's mass at T = 1 over the sum of all, which rounding moves off 1, as `gradient_error_bound` has it."""
    tail = view.tail_at(1.0).double().exp()
    total = tail + view.logprobs.double().exp().sum(dim=1)
    if view.labels is not None and view.label_logprob is not None:
        is_held = ((view.classes == view.labels[:, None]) & view.listed).any(dim=1)
        total += view.label_logprob.double().exp().masked_fill(is_held, 0.0)
    return tail / total


def _tail_errors(view: TopK, num_classes: int) -> tuple[tuple[float, float], ...]:
    errors, lengths = (values.sum(dim=0).tolist() for values in tail_errors(view, num_classes))
    return tuple(zip(errors, lengths, strict=True))


def _add_pairs(found: Sequence[tuple[tuple[float, float], ...]]) -> tuple[tuple[float, float], ...]:
    """The sums, temperature by temperature."""
    return tuple(
        (math.fsum(error for error, _ in pairs), math.fsum(length for _, length in pairs))
        for pairs in zip(*found, strict=True)
    )


def _num_correct(view: TopK) -> int | None:
    return None if view.labels is None else int((view.classes[:, 0] == view.labels).sum())


def _sum_known(counts: Sequence[int | None]) -> int | None:
    """The sum, None where a count is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
