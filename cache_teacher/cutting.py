"""From rows to pixels: decode each image once and cut all its views, wherever that happens."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from pld.errors import UndecodableImageError
from pld.images import Source
from pld.loading.nvjpeg import EncodedViews
from pld.views import Policy, apply_view
from pld.views.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class PartRows:
    """Some rows, of each some views: what a part asks for, or a piece of that."""

    rows: Sequence[int]
    view_indexes: Sequence[int]

    def pieces(self, num_rows: int) -> list[PartRows]:
        """The rows in their order, so many at a time."""
        starts = range(0, len(self.rows), num_rows)
        return [PartRows(self.rows[first : first + num_rows], self.view_indexes) for first in starts]


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewCutter:
    """Cuts the views of some rows into memory, in a thread or in a process: a Filler.

    Attributes:
        source: the images.
        policy: how views are drawn.
        preprocessing: the teacher's.
        skip_bad_images: images that cannot be decoded are told; else they are an error.
    """

    source: Source
    policy: Policy
    preprocessing: Preprocessing
    skip_bad_images: bool

    def num_bytes(self, wanted: PartRows) -> int:
        """Of all views."""
        return math.prod(self._shape(wanted))

    def room(self, wanted: PartRows) -> UInt8[Tensor, "n V 3 h w"]:
        """Memory for all views from which a GPU fetches by itself, where there is one; PyTorch uses it again."""
        memory = torch.empty(self.num_bytes(wanted), dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        return self.images(wanted, memory)

    def images(self, wanted: PartRows, memory: UInt8[Tensor, "bytes"]) -> UInt8[Tensor, "n V 3 h w"]:
        """Memory that is large enough as the views' pixels, channels last."""
        return memory[: self.num_bytes(wanted)].view(self._shape(wanted)).permute(0, 1, 4, 2, 3)

    def fill(self, wanted: PartRows, memory: UInt8[Tensor, "bytes"], on_row: Callable[[int], object]) -> list[bool]:
        """Write the views as `images` lays them out; `on_row` is told which row comes next.

        Returns:
            Which rows could be decoded.

        Raises:
            UndecodableImageError: an image cannot be decoded and is not to be skipped; it is named.
            DataError: an image cannot be read.
        """
        good = []
        for row, out in zip(wanted.rows, self.images(wanted, memory), strict=True):
            on_row(row)
            try:
                cut_views(self.source, row, wanted.view_indexes, self.policy, self.preprocessing, out)
                good.append(True)
            except UndecodableImageError:
                if not self.skip_bad_images:
                    raise
                good.append(False)
        return good

    def _shape(self, wanted: PartRows) -> tuple[int, ...]:
        return _shape(wanted, self.preprocessing)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuCutter:
    """Reads images and draws their views in a process: a Filler; a GPU decodes and cuts.

    Attributes:
        encoded: the images and how views are drawn.
        preprocessing: the teacher's.
        gpu: where.
    """

    encoded: EncodedViews
    preprocessing: Preprocessing
    gpu: torch.device

    @property
    def source(self) -> Source:
        """The images."""
        return self.encoded.source

    def num_bytes(self, wanted: PartRows) -> int:
        """Of the files."""
        return self.encoded.num_bytes(wanted.rows, len(wanted.view_indexes))

    def fill(self, wanted: PartRows, memory: UInt8[Tensor, "bytes"], on_row: Callable[[int], object]) -> list[bool]:
        """Write files and views; as `EncodedViews.write`."""
        return self.encoded.write(wanted.rows, wanted.view_indexes, memory, on_row)

    def room(self, wanted: PartRows) -> UInt8[Tensor, "n V 3 h w"]:
        """Memory on the GPU for all views."""
        memory = torch.empty(_shape(wanted, self.preprocessing), dtype=torch.uint8, device=self.gpu)
        return memory.permute(0, 1, 4, 2, 3)

    def images(self, wanted: PartRows, memory: UInt8[Tensor, "bytes"]) -> UInt8[Tensor, "n V 3 h w"]:
        """The views on the GPU; as `EncodedViews.cut`."""
        return self.encoded.cut(wanted.rows, len(wanted.view_indexes), memory, [self.preprocessing], self.gpu)[0]


def view_cutter(
    source: Source, policy: Policy, preprocessing: Preprocessing, *, skip_bad_images: bool, gpu: torch.device | None
) -> ViewCutter | GpuCutter:
    """What cuts a teacher's views; with nvJPEG on a GPU, if one is given."""
    if gpu:
        encoded = EncodedViews(source=source, policy=policy, skip_bad_images=skip_bad_images)
        return GpuCutter(encoded=encoded, preprocessing=preprocessing, gpu=gpu)
    return ViewCutter(source=source, policy=policy, preprocessing=preprocessing, skip_bad_images=skip_bad_images)


def _shape(wanted: PartRows, preprocessing: Preprocessing) -> tuple[int, ...]:
    return (len(wanted.rows), len(wanted.view_indexes), *preprocessing.input_size, 3)
