"""From rows to a part's signals: decode each image once, cut all its views, run the teacher, keep the top k."""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from pld.errors import UndecodableImageError
from pld.images import Source
from pld.images.preprocessing import Preprocessing
from pld.signals import TopK
from pld.teachers import Teacher
from pld.views import Policy, apply_view, draw_view

# Chunks decoded ahead of the teacher: one in hand, one ready, one in the making.
_CHUNKS_AHEAD = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartSignals:
    """A part's rows that could be decoded, one TopK per view over them, and the keys of those that could not."""

    rows: list[int]
    views: list[TopK]
    skipped: list[str]


def cut_views(
    source: Source, row: int, view_indexes: Sequence[int], policy: Policy, preprocessing: Preprocessing
) -> UInt8[Tensor, "V 3 h w"]:
    """All wanted views of one image, decoded once."""
    image = source.image(row)
    size = (image.shape[1], image.shape[2])
    crops = [
        apply_view(
            image,
            draw_view(source.key(row), index, size, policy),
            preprocessing.input_size,
            preprocessing.interpolation,
        )
        for index in view_indexes
    ]
    return torch.stack(crops)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartRunner:
    """Runs one teacher over views of one source.

    Attributes:
        k: classes to keep.
        temperatures: at which the tail's mass is kept.
        batch_size: views in one forward pass.
        skip_bad_images: leave out images that cannot be decoded; else they are an error.
        device: where the teacher is.
        pool: the decoding threads.
    """

    teacher: Teacher
    source: Source
    policy: Policy
    k: int
    temperatures: tuple[float, ...]
    batch_size: int
    skip_bad_images: bool
    device: str
    pool: ThreadPoolExecutor

    def run(self, rows: Sequence[int], view_indexes: Sequence[int], on_done: Callable[[int], object]) -> PartSignals:
        """The signals of some rows' views; `on_done` is told the number of views after each batch.

        Raises:
            UndecodableImageError: an image cannot be decoded and is not to be skipped; it is named.
            DataError: an image cannot be read.
        """
        num_images = max(1, self.batch_size // len(view_indexes))
        chunks = [rows[first : first + num_images] for first in range(0, len(rows), num_images)]
        kept: list[int] = []
        skipped: list[str] = []
        signals: list[TopK] = []
        for chunk, decoded in self._decode_ahead(chunks, view_indexes):
            good, images = [], []
            for row, future in zip(chunk, decoded, strict=True):
                try:
                    images.append(future.result())
                    good.append(row)
                except UndecodableImageError:
                    if not self.skip_bad_images:
                        raise
                    skipped.append(self.source.key(row))
            if images:
                signals.append(self._forward(torch.cat(images), good, len(view_indexes)))
            kept += good
            on_done(len(chunk) * len(view_indexes))
        return PartSignals(rows=kept, views=_by_view(signals, len(view_indexes)), skipped=skipped)

    def _forward(self, images: UInt8[Tensor, "B 3 h w"], rows: list[int], num_views: int) -> TopK:
        labels = torch.from_numpy(self.source.labels[rows]).repeat_interleave(num_views).to(self.device)
        logits = self.teacher.logits(images.to(self.device))
        return TopK.from_logits(logits, labels, self.k, self.temperatures).to("cpu")

    def _decode_ahead(
        self, chunks: list[Sequence[int]], view_indexes: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], list[Future[Tensor]]]]:
        ahead: deque[tuple[Sequence[int], list[Future[Tensor]]]] = deque()
        cut = functools.partial(
            cut_views,
            self.source,
            view_indexes=view_indexes,
            policy=self.policy,
            preprocessing=self.teacher.preprocessing,
        )
        try:
            for chunk in chunks:
                ahead.append((chunk, [self.pool.submit(cut, row) for row in chunk]))
                if len(ahead) > _CHUNKS_AHEAD:
                    yield ahead.popleft()
            while ahead:
                yield ahead.popleft()
        finally:
            for _, futures in ahead:
                for future in futures:
                    future.cancel()


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
