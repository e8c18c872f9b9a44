"""Decode views on a GPU: worker processes read images and draw their views, nvJPEG and `batch_resize` do the rest.

nvJPEG's pixels differ from libjpeg's and may differ between GPU models, so the decoder is part of a store's identity.
The CPU decodes everything else: formats other than JPEG, RGB and CMYK, progressive files, restart markers and truncated
files. nvJPEG also gets files with damage inside a complete scan, and decodes them in its own way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import simplejpeg
import torch
from jaxtyping import Int32, UInt8
from numpy import ndarray
from torch import Tensor
from torchvision import io

from pld.errors import ConfigError, DataError, UndecodableImageError
from pld.images.dataset import decode_row
from pld.images.decode.image import jpeg_colours, jpeg_size
from pld.images.decode.jpeg_markers import has_one_whole_scan
from pld.loading.view_decoder import Map, ViewDecoder, ViewRequest
from pld.views import View, draw_view
from pld.views.batch_resize import apply_views

# A block of memory begins with a table: for each image its number of bytes (0: bad), whether nvJPEG decodes it, and its
# views.
_IMAGE_NUMBERS, _VIEW_NUMBERS = 2, len(dataclasses.fields(View))


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
        """The size of the files and of a table of sizes and views."""
        return _table_bytes(request) + sum(map(self.dataset.num_bytes, request.rows.tolist()))

    def block_bytes(self, request: ViewRequest) -> int:
        """See ViewDecoder; other rows' files may be larger."""
        return 2 * self.num_bytes(request)

    def fill(
        self, request: ViewRequest, memory: UInt8[Tensor, "bytes"], on_row: Callable[[int], object], map_rows: Map = map
    ) -> list[bool]:
        """See ViewDecoder; the memory holds the files and the views to crop. Rows are read one after another."""
        table, block = _table(request, memory), memory.numpy()
        used, table[:] = table.nbytes, 0
        for row, numbers in zip(request.rows.tolist(), table, strict=True):
            on_row(row)
            data = self.dataset.read(row)
            size = jpeg_size(data)
            is_plain = size is not None and has_one_whole_scan(data) and jpeg_colours(data) in ("YCbCr", "Gray")
            if size is None or not is_plain:
                try:
                    _, height, width = decode_row(self.dataset, row, data).shape
                except UndecodableImageError:
                    if not self.skip_bad_images:
                        raise
                    continue
                size = height, width
            views = [draw_view(self.dataset.key(row), index, size, self.policy) for index in request.view_indexes]
            numbers[:] = [len(data), is_plain, *itertools.chain.from_iterable(map(dataclasses.astuple, views))]
            if used + len(data) > len(block):
                raise DataError(f"{self.dataset.where(row)}: the file is growing; wait until it is complete")
            block[used : used + len(data)] = np.frombuffer(data, np.uint8)
            used += len(data)
        return [bool(num_bytes) for num_bytes in table[:, 0]]

    def views(
        self, request: ViewRequest, memory: UInt8[Tensor, "bytes"], good: list[bool]
    ) -> tuple[tuple[UInt8[Tensor, "n V 3 h w"], ...], list[bool]]:
        """See ViewDecoder; bad images are black. May be called in any thread; the GPU has finished on return."""
        num_rows, num_views = len(request.rows), len(request.view_indexes)
        table = _table(request, memory)
        encoded = memory[table.nbytes :][: table[:, 0].sum()].split(table[:, 0].tolist())
        outputs = []
        with _side_stream(self.device):
            images = self._decode(request, encoded, table)
            places = list(images)
            boxes = table[places, _IMAGE_NUMBERS:].reshape(-1, _VIEW_NUMBERS).tolist()
            views = [View(top, left, height, width, bool(flip)) for top, left, height, width, flip in boxes]
            repeated = [image for image in images.values() for _ in range(num_views)]
            for output in self.outputs:
                shape = (num_rows, num_views, *output.input_size, 3)
                out = torch.zeros(shape, dtype=torch.uint8, device=self.device).permute(0, 1, 4, 2, 3)
                if repeated:
                    pixels = apply_views(repeated, views, output.input_size, output.interpolation)
                    out[torch.tensor(places, device=self.device)] = pixels.unflatten(0, (len(places), num_views))
                if out.is_cuda:  # its memory may not be reused before the default stream's work on it is done
                    out.record_stream(torch.cuda.default_stream(out.device))
                outputs.append(out)
        return tuple(outputs), [place in images for place in range(num_rows)]

    def _decode(
        self, request: ViewRequest, encoded: Sequence[UInt8[Tensor, "_"]], table: Int32[ndarray, "n numbers"]
    ) -> dict[int, UInt8[Tensor, "3 _ _"]]:
        """Decode the good images, by nvJPEG if it can and else by the CPU; by their places in the request, in order.

        Raises:
            UndecodableImageError: an image cannot be decoded after all and bad images are not skipped.
        """
        plain = np.flatnonzero(table[:, 1]).tolist()
        by_gpu = dict(zip(plain, _decode_by_nvjpeg([encoded[place] for place in plain], self.device), strict=True))
        images = {}
        for place in np.flatnonzero(table[:, 0]).tolist():
            image = by_gpu.get(place)
            try:
                if image is None:
                    data = encoded[place].numpy().tobytes()
                    image = decode_row(self.dataset, int(request.rows[place]), data).to(self.device)
                images[place] = image
            except UndecodableImageError:
                if not self.skip_bad_images:
                    raise
        return images


def _decode_by_nvjpeg(encoded: list[UInt8[Tensor, "_"]], device: torch.device) -> list[UInt8[Tensor, "3 _ _"] | None]:
    """Decoded images; None for those that nvJPEG cannot decode, found by bisection as it fails for a whole batch."""
    try:
        return io.decode_jpeg(encoded, io.ImageReadMode.RGB, device=device) if encoded else []
    except RuntimeError as error:
        if "out of memory" in str(error):  # torchvision raises RuntimeError for everything
            raise
        half = len(encoded) // 2
        return _decode_by_nvjpeg(encoded[:half], device) + _decode_by_nvjpeg(encoded[half:], device) if half else [None]


@contextlib.contextmanager
def _side_stream(device: torch.device) -> Iterator[None]:
    """Run the context's GPU work on a stream of its own, not the one that trains, and wait for it at the end."""
    if device.type != "cuda":
        yield
        return
    if device.index is not None:
        torch.cuda.set_device(device)  # a new thread starts on the first GPU, and `stream` would restore that
    with torch.cuda.stream(_stream(device)):
        yield
    _stream(device).synchronize()


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    # One per device: the allocator keeps separate memory for each stream.
    return torch.cuda.Stream(device)


def _table(request: ViewRequest, memory: UInt8[Tensor, "bytes"]) -> Int32[ndarray, "n numbers"]:
    """The table at the head of a block of memory: the numbers of each image."""
    return memory.numpy()[: _table_bytes(request)].view(np.int32).reshape(len(request.rows), -1)


def _table_bytes(request: ViewRequest) -> int:
    numbers = _IMAGE_NUMBERS + _VIEW_NUMBERS * len(request.view_indexes)
    return len(request.rows) * numbers * np.dtype(np.int32).itemsize
