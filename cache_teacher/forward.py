"""Run the teacher on a part's views, and keep the top k of its classes."""

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
    """Rows of a part that are loaded at once, and whether they are the last of a forward pass and of the part."""

    ends_batch: bool
    ends_part: bool


def split_part(
    rows: Int64[np.ndarray, "n"], view_indexes: Sequence[int], *, batch_size: int, piece_size: int
) -> Iterator[PartPiece]:
    """Cut a part into batches of at most `batch_size` views and these into pieces of `piece_size`, of a row at least.

    Worker processes have shared memory for each piece that they load ahead, so that it does not grow with the batch.
    """
    batch_rows, piece_rows = (max(1, size // len(view_indexes)) for size in (batch_size, piece_size))
    for first in range(0, len(rows), batch_rows):
        batch = rows[first : first + batch_rows]
        for start in range(0, len(batch), piece_rows):
            ends_batch = start + piece_rows >= len(batch)
            ends_part = ends_batch and first + batch_rows >= len(rows)
            yield PartPiece(batch[start : start + piece_rows], view_indexes, ends_batch, ends_part)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartSignals:
    """The signals of a part: the rows that could be decoded, one TopK per view over them, and the keys of the others.

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
        device: the teacher's.
        label_check: gets all signals; None if labels may be wrong, or there are none.
    """

    teacher: Teacher
    source: Source
    k: int
    temperatures: tuple[float, ...]
    device: str
    label_check: LabelCheck | None = None

    def run(self, pieces: Iterable[LoadedViews[PartPiece]], on_done: Callable[[int], object]) -> Iterator[PartSignals]:
        """Yield each part's signals.

        Args:
            pieces: all pieces of each part, in order.
            on_done: called with the number of views of each piece.

        Raises:
            DataError: the labels are probably in another order than the teacher's classes.
            TeacherError: the teacher's logits are not finite.
        """
        kept: list[int] = []
        skipped: list[str] = []
        signals: list[TopK] = []
        unmapped_mass = 0.0
        batch: list[Tensor] = []
        rows: list[int] = []
        for piece in pieces:
            request, (images,) = piece.request, piece.images
            num_views = len(request.view_indexes)
            good_images = images if all(piece.good) else images[torch.tensor(piece.good)]
            batch.append(good_images.flatten(0, 1).to(self.device, non_blocking=True))
            rows += request.rows[piece.good].tolist()
            skipped += map(self.source.key, request.rows[~np.array(piece.good)].tolist())
            if request.ends_batch:
                if rows:
                    topk, mass = self._forward(batch[0] if len(batch) == 1 else torch.cat(batch), rows, num_views)
                    signals.append(topk)
                    unmapped_mass += mass
                    if self.label_check:
                        self.label_check.add(topk, rows)
                kept += rows
                batch, rows = [], []
            on_done(len(piece.good) * num_views)
            if request.ends_part:
                yield PartSignals(
                    rows=kept, views=_by_view(signals, num_views), skipped=skipped, unmapped_mass=unmapped_mass
                )
                kept, skipped, signals, unmapped_mass = [], [], [], 0.0

    @torch.inference_mode()
    def _forward(self, images: UInt8[Tensor, "B 3 h w"], rows: list[int], num_views: int) -> tuple[TopK, float]:
        """The views' signals, and the sum of their unmapped mass."""
        labels = None
        if self.source.labels is not None:
            labels = torch.from_numpy(self.source.labels[rows]).repeat_interleave(num_views).to(self.device)
        model_logits = self.teacher.model_logits(images)
        logits = self.teacher.select_classes(model_logits)
        try:
            topk = TopK.from_logits(logits, labels, self.k, self.temperatures).to("cpu")
        except SignalError as error:
            raise TeacherError(
                f"{self.teacher.architecture} in {self.teacher.precision}, on {len(rows)} samples starting at "
                f"{self.source.key(rows[0])}: {error}; try --precision bf16 or fp32, and check the weights"
            ) from error
        return topk, float(self.teacher.unmapped_mass(model_logits).double().sum())


def _by_view(signals: list[TopK], num_views: int) -> list[TopK]:
    """Regroup chunks of [images x views] rows into one TopK per view."""
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
