"""Run the teacher on a part's views, and keep the top k of its classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from cache_teacher.label_check import LabelCheck
from cache_teacher.pieces import PartPiece
from pld.errors import DataError, SignalError, TeacherError
from pld.images import Source
from pld.loading import LoadedViews
from pld.signals import TopK, tail_uniforms, with_tensors
from pld.teachers import Teacher


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
        tail_samples: classes to draw from the tail.
        error: keep as few of the k classes as this bound of PLD's gradient error asks for; None keeps k.
        logprob_error: the store's rounding, nats.
        view_seed: of the views; the draws follow from it, the key and the view.
        device: the teacher's.
        label_check: gets all signals; None if labels may be wrong, or there are none.
    """

    teacher: Teacher
    source: Source
    k: int
    temperatures: tuple[float, ...]
    tail_samples: int
    error: float | None
    logprob_error: float
    view_seed: int
    device: str
    label_check: LabelCheck | None = None

    def run(self, pieces: Iterable[LoadedViews[PartPiece]], on_done: Callable[[int], object]) -> Iterator[PartSignals]:
        """Yield each part's signals.

        Args:
            pieces: all pieces of each part, in order.
            on_done: called with the number of views of each piece.

        Raises:
            DataError: the labels are probably in another order than the teacher's classes, or an image can be decoded
                in some of its views only.
            TeacherError: the teacher's logits are not finite.
        """
        done: list[_Batch] = []
        bad: set[int] = set()
        unmapped_mass = 0.0
        batch: list[Tensor] = []
        rows: list[int] = []
        for piece in pieces:
            request, (images,) = piece.request, piece.images
            num_views = len(request.view_indexes)
            good_images = images if all(piece.good) else images[torch.tensor(piece.good)]
            batch.append(good_images.flatten(0, 1).to(self.device, non_blocking=True))
            rows += request.rows[piece.good].tolist()
            bad.update(request.rows[~np.array(piece.good)].tolist())
            if request.ends_batch:
                if rows:
                    topk, mass = self._forward(
                        batch[0] if len(batch) == 1 else torch.cat(batch), rows, request.view_indexes
                    )
                    unmapped_mass += mass
                    if self.label_check:
                        # Mixed views come one view after another.
                        is_first = not done or done[0].view_indexes == request.view_indexes
                        self.label_check.add(topk, rows, new_images=is_first)
                    done.append(_Batch(rows, request.view_indexes, topk))
                batch, rows = [], []
            on_done(len(piece.good) * num_views)
            if request.ends_part:
                kept, views = self._by_view(done)
                skipped = [self.source.key(row) for row in sorted(bad)]
                yield PartSignals(rows=kept, views=views, skipped=skipped, unmapped_mass=unmapped_mass)
                done, bad, unmapped_mass = [], set(), 0.0

    @torch.inference_mode()
    def _forward(
        self, images: UInt8[Tensor, "B 3 h w"], rows: list[int], view_indexes: Sequence[int]
    ) -> tuple[TopK, float]:
        """The views' signals, and the sum of their unmapped mass."""
        num_views = len(view_indexes)
        labels = None
        if self.source.labels is not None:
            labels = torch.from_numpy(self.source.labels[rows]).repeat_interleave(num_views).to(self.device)
        model_logits = self.teacher.model_logits(images)
        logits = self.teacher.select_classes(model_logits)
        try:
            topk = TopK.from_logits(
                logits,
                labels,
                self.k,
                self.temperatures,
                tail_samples=self.tail_samples,
                uniforms=self._uniforms(rows, view_indexes) if self.tail_samples else None,
                error=self.error,
                logprob_error=self.logprob_error,
            ).to("cpu")
        except SignalError as error:
            raise TeacherError(
                f"{self.teacher.architecture} in {self.teacher.precision}, on {len(rows)} samples starting at "
                f"{self.source.key(rows[0])}: {error}; try --precision bf16 or fp32, and check the weights"
            ) from error
        return topk, float(self.teacher.unmapped_mass(model_logits).double().sum())

    def _uniforms(self, rows: list[int], view_indexes: Sequence[int]) -> Float64[Tensor, "B"]:
        """What tails are drawn by, image by image."""
        keys = [self.source.key(row) for row in rows]
        return torch.stack([tail_uniforms(keys, view, self.view_seed) for view in view_indexes], dim=1).flatten()

    def _by_view(self, batches: Sequence[_Batch]) -> tuple[list[int], list[TopK]]:
        """Regroup batches of [images x views] into the rows in the source's order, and one TopK over them per view.

        Raises:
            DataError: an image can be decoded in some views only.
        """
        rows_of: dict[int, list[int]] = {}
        parts_of: dict[int, list[TopK]] = {}
        for batch in batches:
            for number, view in enumerate(batch.view_indexes):
                rows_of.setdefault(view, []).extend(batch.rows)
                parts_of.setdefault(view, []).append(_every(batch.topk, number, len(batch.view_indexes)))
        kept = sorted(next(iter(rows_of.values()), []))
        for rows in rows_of.values():
            if changed := set(rows) ^ set(kept):
                where = self.source.where(min(changed))
                raise DataError(f"{where}: can be decoded in some of its views alone; did it change? Cache again")
        return kept, [_concatenate(parts, np.argsort(rows_of[view])) for view, parts in parts_of.items()]


class _Batch(NamedTuple):
    """A forward pass: images, the views of each, and their signals, image by image."""

    rows: list[int]
    view_indexes: Sequence[int]
    topk: TopK


def _every(topk: TopK, first: int, step: int) -> TopK:
    """One view's rows of a batch."""
    return with_tensors([topk], lambda tensor: tensor[first::step])


def _concatenate(parts: Sequence[TopK], order: Int64[np.ndarray, "n"]) -> TopK:
    """The rows of all parts, in an order."""
    index = torch.from_numpy(order)
    return with_tensors(parts, lambda *tensors: torch.cat(tensors)[index])
