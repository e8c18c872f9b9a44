"""Sums over a part from which a store's figures follow without reading a chunk."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from pld.signals import TopK
from pld.store.format.fields import Fields

BINS_PER_OCTAVE = 4
_LOWEST_BIN = -20 * BINS_PER_OCTAVE


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartStats:
    """Additive figures of one or more parts.

    Attributes:
        num_rows: sample-views counted.
        num_correct: of them, those whose most probable class is the label.
        tail_mass: sum over them of the teacher's mass outside the top-k and the label, T = 1.
        tail_bins: how many of them have a tail mass in (2^((b-1)/4), 2^(b/4)], by b; the lowest takes what is smaller.
        max_logprob: the largest log-probability, nats; -inf without rows.
        unmapped_mass: sum over them of the model's mass on classes that the dataset does not have, which is no part of
            the teacher's probabilities; 0 where there are none. Taken from the commit: no array holds it.
    """

    num_rows: int
    num_correct: int
    tail_mass: float
    tail_bins: Mapping[int, int]
    max_logprob: float
    unmapped_mass: float = 0.0

    @classmethod
    def of(cls, views: Sequence[TopK], unmapped_mass: float = 0.0) -> PartStats:
        """The figures of a part's views."""
        mass = torch.cat([view.tail_at(1.0) for view in views]).double().exp()
        bins = torch.ceil(torch.log2(mass) * BINS_PER_OCTAVE).clamp(_LOWEST_BIN, 0)
        top1 = torch.cat([view.logprobs[:, 0] for view in views])
        return cls(
            num_rows=len(mass),
            num_correct=sum(int((view.classes[:, 0] == view.labels).sum()) for view in views),
            tail_mass=math.fsum(mass.tolist()),
            tail_bins=dict(sorted(Counter(int(b) for b in bins.tolist()).items())),
            max_logprob=float(top1.max()) if len(top1) else -math.inf,
            unmapped_mass=unmapped_mass,
        )

    @classmethod
    def total(cls, parts: Iterable[PartStats]) -> PartStats:
        """The figures of several parts together."""
        found = list(parts)
        bins: Counter[int] = Counter()
        for part in found:
            bins.update(part.tail_bins)
        return cls(
            num_rows=sum(part.num_rows for part in found),
            num_correct=sum(part.num_correct for part in found),
            tail_mass=math.fsum(part.tail_mass for part in found),
            tail_bins=dict(sorted(bins.items())),
            max_logprob=max((part.max_logprob for part in found), default=-math.inf),
            unmapped_mass=math.fsum(part.unmapped_mass for part in found),
        )

    @property
    def accuracy(self) -> float:
        """The teacher's top-1 on what it saw, 0..1; nan without rows."""
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
        for index, count in sorted(self.tail_bins.items()):
            seen += count
            if seen >= fraction * self.num_rows:
                return float(2.0 ** (index / BINS_PER_OCTAVE))
        return math.nan

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values; no unmapped mass where there is none."""
        unmapped = {"unmapped_mass": self.unmapped_mass} if self.unmapped_mass else {}
        return unmapped | {
            "num_rows": self.num_rows,
            "num_correct": self.num_correct,
            "tail_mass": self.tail_mass,
            "tail_bins": list(self.tail_bins.items()),
            "max_logprob": self.max_logprob if math.isfinite(self.max_logprob) else None,
        }

    @classmethod
    def from_json(cls, value: Any, where: str) -> PartStats:
        """The figures that `to_json` gave; raises CorruptStoreError."""
        fields = Fields(value, where)
        num_rows = fields.integer("num_rows", 0, 2**40)
        empty = fields.take("max_logprob") is None
        stats = cls(
            num_rows=num_rows,
            num_correct=fields.integer("num_correct", 0, num_rows),
            tail_mass=fields.number("tail_mass"),
            tail_bins=fields.histogram("tail_bins", _LOWEST_BIN, 0),
            max_logprob=-math.inf if empty else fields.number("max_logprob"),
            unmapped_mass=fields.number("unmapped_mass") if fields.has("unmapped_mass") else 0.0,
        )
        fields.done()
        return stats
