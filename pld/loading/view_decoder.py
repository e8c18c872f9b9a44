"""Decode views: read an image, draw its views, decode, crop and resize. Both stages, probes, verify and report do."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from pld.errors import UndecodableImageError
from pld.images.dataset import ImageDataset, decode_row
from pld.images.decode.image import jpeg_size
from pld.loading.load_times import CUTTING, DECODING, READING, Lap, Stopwatch
from pld.loading.mix_views import check_mixing, find_mixable, find_partners, leave_unmixed, mix_within
from pld.views import Mixing, Policy, View, apply_view, draw_view
from pld.views.mix_pixels import mix_pixels
from pld.views.preprocessing import Preprocessing

Map = Callable[[Callable[[int], bool], Iterable[int]], Iterable[bool]]
"""`map` itself, or a thread pool's."""


@dataclasses.dataclass(frozen=True, eq=False)
class ViewRequest:
    """Some rows, and the views wanted of each row: the unit of work in loading.

    Attributes:
        rows: int64 [n].
        view_indexes: V of them, the same of every row.
        mixing: what each of the [n, V] views is mixed with; None where the policy mixes nothing.
    """

    rows: Int64[ndarray, "n"]
    view_indexes: Sequence[int]
    mixing: Mixing | None = dataclasses.field(default=None, kw_only=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewDecoder(abc.ABC):
    """Makes views in two steps: `fill` in a worker, which writes to shared memory, then `views` in the main process.

    Attributes:
        dataset: the images.
        policy: how views are drawn.
        outputs: one or more; a student and a live teacher may want different sizes of the same crop.
        skip_bad_images: report images that cannot be decoded as not good, instead of raising.
    """

    dataset: ImageDataset
    policy: Policy
    outputs: tuple[Preprocessing, ...]
    skip_bad_images: bool = False

    @abc.abstractmethod
    def num_bytes(self, request: ViewRequest) -> int:
        """The size of the memory that `fill` needs."""

    def block_bytes(self, request: ViewRequest) -> int:
        """A size that is enough for most requests of as many rows."""
        return self.num_bytes(request)

    @abc.abstractmethod
    def fill(
        self,
        request: ViewRequest,
        memory: UInt8[Tensor, "bytes"],
        on_row: Callable[[int], object],
        map_rows: Map = map,
        watch: Stopwatch | None = None,
    ) -> list[Any]:
        """Write what `views` needs to memory of at least `num_bytes`.

        Args:
            request: what to prepare.
            memory: where to write.
            on_row: called with each row before it is read.
            map_rows: `map`, or a thread pool's, which processes several rows at once.
            watch: counts what it takes, if somebody wants to know.

        Returns:
            What `views` needs to know, of each row first: false if it could not be decoded.

        Raises:
            UndecodableImageError: an image cannot be decoded and bad images are not skipped; names the sample, which
                may be one that another is mixed with.
            DataError: an image cannot be read.
            ConfigError: the policy mixes images and the request does not say which, or the other way round.
        """

    @abc.abstractmethod
    def views(
        self, request: ViewRequest, memory: UInt8[Tensor, "bytes"], filled: Sequence[Any]
    ) -> tuple[tuple[UInt8[Tensor, "n V 3 h w"], ...], list[bool], Mixing | None]:
        """The views that `fill` prepared, channels last, for each output, which rows are good, and how they were mixed.

        Raises:
            UndecodableImageError: as `fill`.
        """


class CpuViewDecoder(ViewDecoder):
    """Decodes each image that a request needs once, and cuts and mixes its views on the CPU, in place.

    Beside its block a request needs a decoded image for each thread, and one more view of each output: where partners
    are far apart within a request, one of each pair.
    """

    def num_bytes(self, request: ViewRequest) -> int:
        """The bytes of all views."""
        return sum(math.prod(shape) for shape in self._shapes(request))

    def fill(
        self,
        request: ViewRequest,
        memory: UInt8[Tensor, "bytes"],
        on_row: Callable[[int], object],
        map_rows: Map = map,
        watch: Stopwatch | None = None,
    ) -> list[tuple[bool, ...]]:
        """See ViewDecoder; the memory holds the views themselves.

        Returns:
            For each row whether each of its views is mixed as requested; nothing if it could not be decoded.
        """
        check_mixing(self.policy, request.mixing)
        outputs, watch = self._split(request, memory), watch or Stopwatch()

        def cut(place: int) -> bool:
            lap = watch.lap()
            decoded = self._decode(int(request.rows[place]), request.view_indexes, on_row, lap)
            if decoded is None:
                return False
            image, views = decoded
            for images, output in zip(outputs, self.outputs, strict=True):
                for view, pixels in zip(views, images[place], strict=True):
                    apply_view(image, view, output.input_size, output.interpolation, out=pixels)
            lap.end(CUTTING)
            return True

        good = np.array(list(map_rows(cut, range(len(request.rows)))), dtype=bool)
        done = np.repeat(good[:, None], len(request.view_indexes), axis=1)
        if request.mixing is not None:
            done = self._mix(request, request.mixing, outputs, good, on_row, map_rows, watch)
        return [tuple(views) if is_good else () for views, is_good in zip(done.tolist(), good.tolist(), strict=True)]

    def _mix(
        self,
        request: ViewRequest,
        mixing: Mixing,
        outputs: Sequence[UInt8[Tensor, "n V 3 _ _"]],
        good: Bool[ndarray, "n"],
        on_row: Callable[[int], object],
        map_rows: Map,
        watch: Stopwatch,
    ) -> Bool[ndarray, "n V"]:
        """Mix the views in place; returns which are as requested."""
        lap = watch.lap()
        inside, beside = find_partners(request.rows, mixing, len(request.view_indexes))
        # First, while views whose partners are beside the request still show their own images alone.
        for images in outputs:
            mix_within(images, inside, find_mixable(good, inside, {}), mixing)
        lap.end(CUTTING)

        def mix_with(row: int) -> bool:
            uses, lap = beside[row], watch.lap()
            decoded = self._decode(row, [request.view_indexes[number] for number in uses], on_row, lap)
            if decoded is None:
                return False
            image, views = decoded
            for images, output in zip(outputs, self.outputs, strict=True):
                for (number, places), view in zip(uses.items(), views, strict=True):
                    other = apply_view(image, view, output.input_size, output.interpolation).permute(1, 2, 0).numpy()
                    for place in places:
                        own = images[place, number].permute(1, 2, 0).numpy()
                        mix_pixels(own, other, mixing[place, number, ...], out=own)
            lap.end(CUTTING)
            return True

        are_good = map_rows(mix_with, beside)
        bad = {row for row, is_good in zip(beside, are_good, strict=True) if not is_good}
        return find_mixable(good, inside, beside, bad)

    def _decode(
        self, row: int, view_indexes: Sequence[int], on_row: Callable[[int], object], lap: Lap
    ) -> tuple[UInt8[Tensor, "3 h w"], list[View]] | None:
        on_row(row)
        try:
            return decode_for_views(self.dataset, row, view_indexes, self.policy, lap)
        except UndecodableImageError:
            if not self.skip_bad_images:
                raise
            return None

    def views(
        self, request: ViewRequest, memory: UInt8[Tensor, "bytes"], filled: Sequence[Any]
    ) -> tuple[tuple[UInt8[Tensor, "n V 3 h w"], ...], list[bool], Mixing | None]:
        """See ViewDecoder."""
        good = list(map(bool, filled))
        mixing = request.mixing
        if mixing is not None:
            nothing = (False,) * len(request.view_indexes)
            done = np.array([views or nothing for views in filled], dtype=bool).reshape(mixing.kinds.shape)
            mixing = leave_unmixed(mixing, request.rows, done)
        return self._split(request, memory), good, mixing

    def _shapes(self, request: ViewRequest) -> list[tuple[int, ...]]:
        return [(len(request.rows), len(request.view_indexes), *output.input_size, 3) for output in self.outputs]

    def _split(self, request: ViewRequest, memory: UInt8[Tensor, "bytes"]) -> tuple[UInt8[Tensor, "n V 3 h w"], ...]:
        """The memory as one tensor for each output."""
        shapes = self._shapes(request)
        sizes = [math.prod(shape) for shape in shapes]
        parts = memory[: sum(sizes)].split(sizes)
        return tuple(part.view(shape).permute(0, 1, 4, 2, 3) for part, shape in zip(parts, shapes, strict=True))


def decode_for_views(
    dataset: ImageDataset, row: int, view_indexes: Sequence[int], policy: Policy, lap: Lap | None = None
) -> tuple[UInt8[Tensor, "3 h w"], list[View]]:
    """Decode the part of an image that its views need, and give the views' positions in it; the lap counts the time.

    Raises:
        UndecodableImageError: it cannot be decoded; names the sample. Damage below the views may go unnoticed.
        DataError: it cannot be read.
    """
    lap = lap or Stopwatch().lap()
    data, key = dataset.read(row), dataset.key(row)
    lap.end(READING)
    size = jpeg_size(data)
    if size is None:
        image = decode_row(dataset, row, data)
        lap.end(DECODING)
        return image, [draw_view(key, index, (image.shape[1], image.shape[2]), policy) for index in view_indexes]
    views = [draw_view(key, index, size, policy) for index in view_indexes]
    top, left = min(view.top for view in views), min(view.left for view in views)
    bottom, right = max(view.top + view.height for view in views), max(view.left + view.width for view in views)
    lap.end(CUTTING)
    image = decode_row(dataset, row, data, size, (top, left, bottom - top, right - left))
    lap.end(DECODING)
    return image, [dataclasses.replace(view, top=view.top - top, left=view.left - left) for view in views]
