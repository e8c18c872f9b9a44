"""From a part's views to its signals: run the teacher, keep the top k."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from cache_teacher.label_check import LabelCheck
from pld.errors import SignalError, TeacherError
from pld.images import Source
from pld.loading import LoadedViews, ViewRequest
from pld.signals import TopK
from pld.teachers import Teacher


@dataclasses.dataclass(frozen=True, eq=False)
class PartPiece(ViewRequest):
    """As many of a part's rows as go through the teacher at once, and whether they are the part's last."""

    is_last: bool


def split_part(rows: Int64[np.ndarray, "n"], view_indexes: Sequence[int], batch_size: int) -> Iterator[PartPiece]:
    """A part in pieces of at most `batch_size` views, or of one row."""
    at_once = max(1, batch_size // len(view_indexes))
    for first in range(0, len(rows), at_once):
        yield PartPiece(rows[first : first + at_once], view_indexes, first + at_once >= len(rows))


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
        k: classes to keep.
        temperatures: at which the tail's mass is kept.
        device: where the teacher is.
        label_check: looks at the first signals; None where labels may be wrong.
    """

    teacher: Teacher
    source: Source
    k: int
    temperatures: tuple[float, ...]
    device: str
    label_check: LabelCheck | None = None

    def run(self, pieces: Iterable[LoadedViews[PartPiece]], on_done: Callable[[int], object]) -> Iterator[PartSignals]:
        """Each part's signals in turn.

        Args:
            pieces: all pieces of each part.
            on_done: called with the number of views after each forward pass.

        Raises:
            DataError: the labels are hardly the teacher's.
        """
        kept: list[int] = []
        skipped: list[str] = []
        signals: list[TopK] = []
        unmapped_mass = 0.0
        for piece in pieces:
            request, (images,) = piece.request, piece.images
            num_views = len(request.view_indexes)
            rows = request.rows[piece.good].tolist()
            if rows:
                good_images = images if all(piece.good) else images[torch.tensor(piece.good)]
                topk, mass = self._forward(good_images.flatten(0, 1), rows, num_views)
                signals.append(topk)
                unmapped_mass += mass
                if self.label_check:
                    self.label_check.add(topk, rows)
            kept += rows
            skipped += map(self.source.key, request.rows[~np.array(piece.good)].tolist())
            on_done(len(piece.good) * num_views)
            if request.is_last:
                yield PartSignals(
                    rows=kept, views=_by_view(signals, num_views), skipped=skipped, unmapped_mass=unmapped_mass
                )
                kept, skipped, signals, unmapped_mass = [], [], [], 0.0

    @torch.inference_mode()
    def _forward(self, images: UInt8[Tensor, "B 3 h w"], rows: list[int], num_views: int) -> tuple[TopK, float]:
        """The views' signals, and the sum of the mass that they leave out."""
        labels = torch.from_numpy(self.source.labels[rows]).repeat_interleave(num_views)
        of_model = self.teacher.model_logits(images.to(self.device, non_blocking=True))
        logits = self.teacher.select_classes(of_model)
        try:
            topk = TopK.from_logits(logits, labels.to(self.device), self.k, self.temperatures).to("cpu")
        except SignalError as error:
            raise TeacherError(
                f"{self.teacher.architecture} in {self.teacher.precision}, on {len(rows)} samples from "
                f"{self.source.key(rows[0])} on: {error}; try --precision bf16 or fp32, and look at the weights"
            ) from error
        return topk, float(self.teacher.unmapped_mass(of_model).double().sum())


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
