"""From rows to a part's signals: decode each image once, cut all its views, run the teacher, keep the top k."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from pld.errors import UndecodableImageError
from pld.images import Source
from pld.images.preprocessing import Preprocessing
from pld.reused_memory import Recycler
from pld.signals import TopK
from pld.teachers import Teacher
from pld.views import Policy, apply_view

# Chunks decoded ahead of a teacher on a device of its own: one ready, one in the making.
_CHUNKS_AHEAD = 2

# When a part is asked for, all up to so many before it have been decoded: a chunk is of one part.
PARTS_IN_FLIGHT = _CHUNKS_AHEAD + 1


@dataclasses.dataclass(frozen=True)
class PartRows:
    """What a part asks for: some rows, of each some views."""

    rows: Sequence[int]
    view_indexes: Sequence[int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartSignals:
    """A part's rows that could be decoded, one TopK per view over them, and the keys of those that could not."""

    rows: list[int]
    views: list[TopK]
    skipped: list[str]


def cut_views(
    source: Source,
    row: int,
    view_indexes: Sequence[int],
    policy: Policy,
    preprocessing: Preprocessing,
    out: UInt8[Tensor, "V 3 h w"],
) -> None:
    """Write all wanted views of one image, decoded once, to `out`; raises what `Source.views` raises."""
    image, views = source.views(row, view_indexes, policy)
    for view, pixels in zip(views, out, strict=True):
        apply_view(image, view, preprocessing.input_size, preprocessing.interpolation, out=pixels)


@dataclasses.dataclass(frozen=True)
class _Chunk:
    """As many of a part's rows as go through the teacher at once; `images` is complete when `good` are all done.

    Each of `good` says of every so-manieth row whether it could be decoded.
    """

    part: PartRows
    rows: Sequence[int]
    is_last: bool
    images: UInt8[Tensor, "n V 3 h w"]
    good: list[Future[list[bool]]]


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
        threads: how many there are.
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
    threads: int
    recycler: Recycler = dataclasses.field(default_factory=Recycler)

    def run(self, parts: Iterable[PartRows], on_done: Callable[[int], object]) -> Generator[PartSignals, None, None]:
        """Each part's signals in turn; the next part's images are read while a part's last ones are at the teacher.

        `on_done` is told the number of views after each forward pass.

        Raises:
            UndecodableImageError: an image cannot be decoded and is not to be skipped; it is named.
            DataError: an image cannot be read.
        """
        kept: list[int] = []
        skipped: list[str] = []
        signals: list[TopK] = []
        for chunk in self._decode_ahead(parts):
            good = self._good(chunk)
            rows = list(itertools.compress(chunk.rows, good))
            if rows:
                images = chunk.images if len(rows) == len(good) else chunk.images[torch.tensor(good)]
                signals.append(self._forward(images.flatten(0, 1), rows, len(chunk.part.view_indexes)))
            kept += rows
            skipped += [self.source.key(row) for row, fine in zip(chunk.rows, good, strict=True) if not fine]
            on_done(len(chunk.rows) * len(chunk.part.view_indexes))
            if chunk.is_last:
                yield PartSignals(rows=kept, views=_by_view(signals, len(chunk.part.view_indexes)), skipped=skipped)
                kept, skipped, signals = [], [], []

    @torch.inference_mode()
    def _forward(self, images: UInt8[Tensor, "B 3 h w"], rows: list[int], num_views: int) -> TopK:
        labels = torch.from_numpy(self.source.labels[rows]).repeat_interleave(num_views)
        logits = self.teacher.logits(images.to(self.device, non_blocking=True))
        return TopK.from_logits(logits, labels.to(self.device), self.k, self.temperatures).to("cpu")

    def _decode_ahead(self, parts: Iterable[PartRows]) -> Iterator[_Chunk]:
        # A teacher on the CPU needs the cores that decode: in turn they are as fast, and do not wait for each other.
        num_ahead = 0 if self.device == "cpu" else _CHUNKS_AHEAD
        ahead: deque[_Chunk] = deque()
        try:
            for part in parts:
                num_images = max(1, self.batch_size // len(part.view_indexes))
                for first in range(0, len(part.rows), num_images):
                    rows = part.rows[first : first + num_images]
                    ahead.append(self._begin(part, rows, is_last=first + num_images >= len(part.rows)))
                    if len(ahead) > num_ahead:
                        yield ahead.popleft()
            while ahead:
                yield ahead.popleft()
        finally:
            for future in itertools.chain.from_iterable(chunk.good for chunk in ahead):
                future.cancel()

    def _begin(self, part: PartRows, rows: Sequence[int], *, is_last: bool) -> _Chunk:
        shape = (len(rows), len(part.view_indexes), *self.teacher.preprocessing.input_size, 3)
        if self.device == "cpu":
            memory = self.recycler.empty(shape, torch.uint8)
        else:
            memory = torch.empty(shape, dtype=torch.uint8, pin_memory=True)  # PyTorch itself recycles it
        images = memory.permute(0, 1, 4, 2, 3)
        shares = [(rows[first :: self.threads], images[first :: self.threads]) for first in range(self.threads)]
        return _Chunk(part, rows, is_last, images, [self.pool.submit(self._cut, part, *share) for share in shares])

    def _cut(self, part: PartRows, rows: Sequence[int], images: UInt8[Tensor, "n V 3 h w"]) -> list[bool]:
        """Write the rows' views to `images`; which rows could be decoded."""
        good = []
        for row, out in zip(rows, images, strict=True):
            try:
                cut_views(self.source, row, part.view_indexes, self.policy, self.teacher.preprocessing, out)
                good.append(True)
            except UndecodableImageError:
                if not self.skip_bad_images:
                    raise
                good.append(False)
        return good

    def _good(self, chunk: _Chunk) -> list[bool]:
        """Whether each row of a chunk could be decoded, when that is known; the first row's error comes first."""
        good = [False] * len(chunk.rows)
        for first, future in enumerate(chunk.good):
            good[first :: self.threads] = future.result()
        return good


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
