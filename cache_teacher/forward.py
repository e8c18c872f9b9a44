"""From a part's views to its signals: run the teacher, keep the top k."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterable
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from cache_teacher.cutting import PartRows
from cache_teacher.decoding import Decoder
from cache_teacher.label_check import LabelCheck
from pld.errors import SignalError, TeacherError
from pld.images import Source
from pld.signals import TopK
from pld.teachers import Teacher


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartSignals:
    """A part's rows that could be decoded, one TopK per view over them, and the keys of those that could not.

    `unmapped_mass` is the model's mass on classes that the dataset does not have, summed over rows and views.
    """

    rows: list[int]
    views: list[TopK]
    skipped: list[str]
    unmapped_mass: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartRunner:
    """Runs one teacher over views of one source.

    Attributes:
        decoder: gives the source's views.
        k: classes to keep.
        temperatures: at which the tail's mass is kept.
        device: where the teacher is.
        label_check: looks at the first signals; None where labels may be wrong.
    """

    teacher: Teacher
    source: Source
    decoder: Decoder
    k: int
    temperatures: tuple[float, ...]
    device: str
    label_check: LabelCheck | None = None

    def run(self, parts: Iterable[PartRows], on_done: Callable[[int], object]) -> Generator[PartSignals, None, None]:
        """Each part's signals in turn; the next part's images are read while a part's last ones are at the teacher.

        `on_done` is told the number of views after each forward pass.

        Raises:
            UndecodableImageError: an image cannot be decoded and is not to be skipped; it is named.
            DataError: an image cannot be read, or the labels are hardly the teacher's.
        """
        kept: list[int] = []
        skipped: list[str] = []
        signals: list[TopK] = []
        unmapped_mass = 0.0
        with contextlib.closing(self.decoder.chunks(parts)) as chunks:
            for chunk in chunks:
                num_views = len(chunk.wanted.view_indexes)
                rows = list(itertools.compress(chunk.wanted.rows, chunk.good))
                if rows:
                    images = chunk.images if all(chunk.good) else chunk.images[torch.tensor(chunk.good)]
                    topk, mass = self._forward(images.flatten(0, 1), rows, num_views)
                    signals.append(topk)
                    unmapped_mass += mass
                    if self.label_check:
                        self.label_check.add(topk, rows)
                kept += rows
                bad = (row for row, good in zip(chunk.wanted.rows, chunk.good, strict=True) if not good)
                skipped += map(self.source.key, bad)
                on_done(len(chunk.good) * num_views)
                if chunk.is_last:
                    yield PartSignals(
                        rows=kept, views=_by_view(signals, num_views), skipped=skipped, unmapped_mass=unmapped_mass
                    )
                    kept, skipped, signals, unmapped_mass = [], [], [], 0.0

    @torch.inference_mode()
    def _forward(self, images: UInt8[Tensor, "B 3 h w"], rows: list[int], num_views: int) -> tuple[TopK, float]:
        """The views' signals, and the sum of the mass that they leave out."""
        labels = torch.from_numpy(self.source.labels[rows]).repeat_interleave(num_views)
        of_model = self.teacher.model_logits(images.to(self.device, non_blocking=True))
        logits = self.teacher.kept(of_model)
        try:
            topk = TopK.from_logits(logits, labels.to(self.device), self.k, self.temperatures).to("cpu")
        except SignalError as error:
            raise TeacherError(
                f"{self.teacher.architecture} in {self.teacher.precision}, on {len(rows)} samples from "
                f"{self.source.key(rows[0])} on: {error}; try --precision bf16 or fp32, and look at the weights"
            ) from error
        return topk, float(self.teacher.mass_left_out(of_model).double().sum())


def _by_view(signals: list[TopK], num_views: int) -> list[TopK]:
    """Chunks of [images x views] rows, regrouped into one TopK per view."""
    if not signals:
        return []
    tensors: dict[str, Any] = {
        field.name: torch.cat([getattr(signal, field.name) for signal in signals])
        for field in dataclasses.fields(TopK)
        if isinstance(getattr(signals[0], field.name), Tensor)
    }
    return [
        dataclasses.replace(signals[0], **{name: value[view::num_views] for name, value in tensors.items()})
        for view in range(num_views)
    ]
