"""Decode views on a GPU: worker processes read images and draw their views, nvJPEG and `batch_resize` do the rest.

nvJPEG's pixels differ from libjpeg's and may differ between GPU models, so the decoder is part of a store's identity.
The CPU decodes everything else: formats other than JPEG, RGB and CMYK, progressive files, restart markers and truncated
files. nvJPEG also gets files with damage inside a complete scan, and decodes them in its own way. Steps after the crop
run on the CPU, and the views go there and back: policies that have some are faster with the CPU decoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray
from torch import Tensor
from torchvision import io

from pld.errors import ConfigError, DataError, UndecodableImageError
from pld.images.dataset import decode_row
from pld.images.decode.image import jpeg_colours, jpeg_size
from pld.images.decode.jpeg_markers import has_one_whole_scan
from pld.loading.load_times import CUTTING, DECODING, READING, Stopwatch
from pld.loading.mix_views import Uses, check_mixing, find_mixable, find_partners, leave_unmixed
from pld.loading.side_stream import side_stream
from pld.loading.view_decoder import Map, ViewDecoder, ViewRequest
from pld.views import Mixing, View, draw_view
from pld.views.batch_mix import mix_views
from pld.views.batch_resize import apply_views
from pld.views.steps.ops import apply_ops


@dataclasses.dataclass(frozen=True)
class _File:
    """What a worker says of an image that it has read, and whose file lies in memory behind those before it."""

    num_bytes: int
    for_nvjpeg: bool
    views: list[View]


def check_device(device: torch.device) -> None:
    """Raise ConfigError if nvJPEG cannot decode on a device."""
    if device.type != "cuda":
        raise ConfigError(
            f"--decoder nvjpeg, given or the store's: decodes on a GPU, this is {device.type}; give --decoder cpu"
        )
    grey = simplejpeg.encode_jpeg(np.full((16, 16, 3), 128, np.uint8))
    try:
        io.decode_jpeg([torch.frombuffer(bytearray(grey), dtype=torch.uint8)], io.ImageReadMode.RGB, device=device)
    except (RuntimeError, AttributeError) as error:  # torchvision plans to remove its decoders
        raise ConfigError(f"--decoder nvjpeg: {str(error).splitlines()[0]}; give --decoder cpu") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class NvjpegViewDecoder(ViewDecoder):
    """A ViewDecoder whose workers read files and draw views, and whose `views` decodes and crops them on a GPU.

    Attributes:
        device: the GPU.
    """

    device: torch.device

    def num_bytes(self, request: ViewRequest) -> int:
        """The size of the files, of the images that others are mixed with as well."""
        return sum(map(self.dataset.num_bytes, (*request.rows.tolist(), *_beside(request))))

    def block_bytes(self, request: ViewRequest) -> int:
        """See ViewDecoder; other rows' files may be larger."""
        return 2 * self.num_bytes(request)

    def fill(
        self,
        request: ViewRequest,
        memory: UInt8[Tensor, "bytes"],
        on_row: Callable[[int], object],
        map_rows: Map = map,
        watch: Stopwatch | None = None,
    ) -> list[_File | None]:
        """See ViewDecoder; the memory holds the files. Rows are read one after another, the request's first."""
        check_mixing(self.policy, request.mixing)
        block, used, lap = memory.numpy(), 0, (watch or Stopwatch()).lap()
        files: list[_File | None] = []
        wanted = [(row, list(request.view_indexes)) for row in request.rows.tolist()]
        wanted += [(row, [request.view_indexes[number] for number in uses]) for row, uses in _beside(request).items()]
        for row, view_indexes in wanted:
            on_row(row)
            data = self.dataset.read(row)
            lap.end(READING)
            size = jpeg_size(data)
            is_plain = size is not None and has_one_whole_scan(data) and jpeg_colours(data) in ("YCbCr", "Gray")
            if size is None or not is_plain:
                try:
                    _, height, width = decode_row(self.dataset, row, data).shape
                except UndecodableImageError:
                    if not self.skip_bad_images:
                        raise
                    files.append(None)
                    continue
                size = height, width
                lap.end(DECODING)
            views = [draw_view(self.dataset.key(row), index, size, self.policy) for index in view_indexes]
            files.append(_File(len(data), is_plain, views))
            if used + len(data) > len(block):
                raise DataError(f"{self.dataset.where(row)}: the file is growing; wait until it is complete")
            block[used : used + len(data)] = np.frombuffer(data, np.uint8)
            used += len(data)
            lap.end(CUTTING)
        return files

    def views(
        self, request: ViewRequest, memory: UInt8[Tensor, "bytes"], filled: Sequence[_File | None]
    ) -> tuple[tuple[UInt8[Tensor, "n V 3 h w"], ...], list[bool], Mixing | None]:
        """See ViewDecoder; bad images are black. May be called in any thread; the GPU has finished on return."""
        num_rows, num_views = len(request.rows), len(request.view_indexes)
        outputs = []
        with side_stream(self.device):
            images = self._decode(request, memory, filled)
            places = [place for place in images if place < num_rows]
            views = [view for place in images for view in _views_of(filled[place])]
            repeated = [image for place, image in images.items() for _ in _views_of(filled[place])]
            mixing, pairs = _find_pairs(request, images)
            for output in self.outputs:
                shape = (num_rows, num_views, *output.input_size, 3)
                out = torch.zeros(shape, dtype=torch.uint8, device=self.device).permute(0, 1, 4, 2, 3)
                if places:
                    pixels = apply_views(repeated, views, output.input_size, output.interpolation)
                    pixels = _apply_ops(pixels, views)
                    if mixing is not None:
                        own, other = (torch.from_numpy(index).to(self.device) for index in (pairs.own, pairs.other))
                        pixels[own] = mix_views(pixels[own], pixels[other], mixing[pairs.places, pairs.numbers])
                    own_pixels = pixels[: len(places) * num_views].unflatten(0, (len(places), num_views))
                    out[torch.tensor(places, device=self.device)] = own_pixels
                if out.is_cuda:  # its memory may not be reused before the default stream's work on it is done
                    out.record_stream(torch.cuda.default_stream(out.device))
                outputs.append(out)
        return tuple(outputs), [place in images for place in range(num_rows)], mixing

    def _decode(
        self, request: ViewRequest, memory: UInt8[Tensor, "bytes"], files: Sequence[_File | None]
    ) -> dict[int, UInt8[Tensor, "3 _ _"]]:
        """Decode the good images, by nvJPEG if it can and else by the CPU; by their places in the request, in order.

        Those beside the request have the places behind its rows.

        Raises:
            UndecodableImageError: an image cannot be decoded after all and bad images are not skipped.
        """
        sizes = [file.num_bytes if file else 0 for file in files]
        encoded = memory[: sum(sizes)].split(sizes)
        plain = [place for place, file in enumerate(files) if file and file.for_nvjpeg]
        by_gpu = dict(zip(plain, _decode_by_nvjpeg([encoded[place] for place in plain], self.device), strict=True))
        images = {}
        for place, row in enumerate((*request.rows.tolist(), *_beside(request))):
            if files[place] is None:
                continue
            image = by_gpu.get(place)
            try:
                if image is None:
                    image = decode_row(self.dataset, row, encoded[place].numpy().tobytes()).to(self.device)
                images[place] = image
            except UndecodableImageError:
                if not self.skip_bad_images:
                    raise
        return images


def _beside(request: ViewRequest) -> dict[int, Uses]:
    return find_partners(request.rows, request.mixing, len(request.view_indexes))[1]


def _views_of(file: _File | None) -> list[View]:
    return file.views if file else []


class _Pairs(NamedTuple):
    """Views that are mixed: numbers of the cuts that make each, and its place and number in the request."""

    own: Int64[ndarray, "P"]
    other: Int64[ndarray, "P"]
    places: Int64[ndarray, "P"]
    numbers: Int64[ndarray, "P"]


def _find_pairs(request: ViewRequest, images: Collection[int]) -> tuple[Mixing | None, _Pairs]:
    """What can be mixed of a request, and the cuts it takes.

    Args:
        request: as asked for.
        images: the places that could be decoded, in order. The cuts are theirs, one after another.
    """
    if request.mixing is None:
        none = np.empty(0, np.int64)
        return None, _Pairs(none, none, none, none)
    num_rows, num_views = len(request.rows), len(request.view_indexes)
    partners, beside = find_partners(request.rows, request.mixing, num_views)
    good = np.array([place in images for place in range(num_rows)], dtype=bool)
    bad = {row for place, row in enumerate(beside, start=num_rows) if place not in images}
    mixable = find_mixable(good, partners, beside, bad)
    numbers_of: dict[int, Iterable[int]] = dict.fromkeys(range(num_rows), range(num_views))
    for place, uses in enumerate(beside.values(), start=num_rows):
        numbers_of[place] = uses
        for number, into in uses.items():
            partners[into, number] = place
    cut = {(place, number): i for i, (place, number) in enumerate((p, n) for p in images for n in numbers_of[p])}
    places, numbers = np.nonzero(mixable & (partners >= 0))
    pairs = list(zip(places.tolist(), numbers.tolist(), strict=True))
    others = [cut[int(partners[pair]), pair[1]] for pair in pairs]
    mixing = leave_unmixed(request.mixing, request.rows, mixable)
    return mixing, _Pairs(
        np.array([cut[pair] for pair in pairs], np.int64), np.array(others, np.int64), places, numbers
    )


def _apply_ops(pixels: UInt8[Tensor, "B 3 h w"], views: Sequence[View]) -> UInt8[Tensor, "B 3 h w"]:
    """The views after their operations, which run on the CPU."""
    if not any(view.ops for view in views):
        return pixels
    on_cpu = pixels.cpu()
    for image, view in zip(on_cpu, views, strict=True):
        if view.ops:
            changed = apply_ops(image.permute(1, 2, 0).numpy(), view.ops)
            image.copy_(torch.from_numpy(changed).permute(2, 0, 1))
    return on_cpu.to(pixels.device)


def _decode_by_nvjpeg(encoded: list[UInt8[Tensor, "_"]], device: torch.device) -> list[UInt8[Tensor, "3 _ _"] | None]:
    """Decoded images; None for those that nvJPEG cannot decode, found by bisection as it fails for a whole batch."""
    try:
        return io.decode_jpeg(encoded, io.ImageReadMode.RGB, device=device) if encoded else []
    except RuntimeError as error:
        if "out of memory" in str(error):  # torchvision raises RuntimeError for everything
            raise
        half = len(encoded) // 2
        return _decode_by_nvjpeg(encoded[:half], device) + _decode_by_nvjpeg(encoded[half:], device) if half else [None]
