"""Decoding by the GPU: loader processes read images and draw their views, nvJPEG and `batch_resize` do the rest.

nvJPEG's pixels are not libjpeg's, and may differ between kinds of GPU: who decodes is part of a store's identity. What
nvJPEG is not given is decoded as always: other formats than JPEG, RGB and CMYK, progressive files, restart markers,
files that are cut short. Damage inside a whole scan it is given, and what it makes of that is its own.
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
from jaxtyping import Bool, Int32, UInt8
from numpy import ndarray
from torch import Tensor
from torchvision import io

from pld.errors import ConfigError, DataError, UndecodableImageError
from pld.images.decode.image import jpeg_colours, jpeg_size
from pld.images.decode.jpeg_markers import has_one_whole_scan
from pld.images.sources.source import Source
from pld.views import Policy, View, draw_view
from pld.views.batch_resize import apply_views
from pld.views.preprocessing import Preprocessing

# What a block of memory says of each image before their bytes: how many these are, whether nvJPEG is to decode them,
# and the image's views.
_IMAGE_NUMBERS, _VIEW_NUMBERS = 2, len(dataclasses.fields(View))


def check_device(device: torch.device) -> None:
    """Raise ConfigError where nvJPEG cannot decode on a device."""
    if device.type != "cuda":
        raise ConfigError(
            f"--decoder nvjpeg, given or the store's: decodes on a GPU, this is {device.type}; give --decoder cpu"
        )
    grey = simplejpeg.encode_jpeg(np.full((16, 16, 3), 128, np.uint8))
    try:
        io.decode_jpeg([torch.frombuffer(bytearray(grey), dtype=torch.uint8)], io.ImageReadMode.RGB, device=device)
    except (RuntimeError, AttributeError) as error:  # torchvision means to give its decoders up
        raise ConfigError(f"--decoder nvjpeg: {str(error).splitlines()[0]}; give --decoder cpu") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedViews:
    """Images as they are in their files with the views to cut from them: one process writes them, another cuts.

    Attributes:
        source: the images.
        policy: how views are drawn.
        skip_bad_images: images that cannot be decoded are told; else they are an error.
    """

    source: Source
    policy: Policy
    skip_bad_images: bool = False

    def num_bytes(self, rows: Sequence[int], num_views: int) -> int:
        """The memory that some rows with so many views each take."""
        return _table_bytes(len(rows), num_views) + sum(map(self.source.num_bytes, rows))

    def write(
        self,
        rows: Sequence[int],
        view_indexes: Sequence[int],
        memory: UInt8[Tensor, "bytes"],
        on_row: Callable[[int], object],
    ) -> list[bool]:
        """Write rows to memory of `num_bytes`; `on_row` is told which row comes next.

        Returns:
            Which of them can be decoded.

        Raises:
            UndecodableImageError: an image cannot be decoded and is not to be skipped; it is named.
            DataError: an image cannot be read.
        """
        table, block = _table(memory, len(rows), len(view_indexes)), memory.numpy()
        used, table[:] = table.nbytes, 0
        for row, numbers in zip(rows, table, strict=True):
            on_row(row)
            data = self.source.read(row)
            size = jpeg_size(data)
            is_plain = size is not None and has_one_whole_scan(data) and jpeg_colours(data) in ("YCbCr", "Gray")
            if size is None or not is_plain:
                try:
                    _, height, width = self.source.decode(row, data).shape
                except UndecodableImageError:
                    if not self.skip_bad_images:
                        raise
                    continue
                size = height, width
            views = [draw_view(self.source.key(row), index, size, self.policy) for index in view_indexes]
            numbers[:] = [len(data), is_plain, *itertools.chain.from_iterable(map(dataclasses.astuple, views))]
            if used + len(data) > len(block):
                raise DataError(
                    f"{self.source.location}: sample {self.source.key(row)}: its file grows; wait until it is whole"
                )
            block[used : used + len(data)] = np.frombuffer(data, np.uint8)
            used += len(data)
        return [bool(num_bytes) for num_bytes in table[:, 0]]

    def cut(
        self,
        rows: Sequence[int],
        num_views: int,
        memory: UInt8[Tensor, "bytes"],
        preprocessings: Sequence[Preprocessing],
        device: torch.device,
    ) -> list[UInt8[Tensor, "n V 3 h w"]]:
        """The views of what was written, channels last, on a device, for each preprocessing; black where none is.

        May be called in any thread; the device has done its work when this returns.

        Raises:
            UndecodableImageError: an image cannot be decoded after all; it is named.
        """
        views, errors = self.try_cut(rows, num_views, memory, preprocessings, device)
        for error in errors.values():
            raise error
        return views

    def try_cut(
        self,
        rows: Sequence[int],
        num_views: int,
        memory: UInt8[Tensor, "bytes"],
        preprocessings: Sequence[Preprocessing],
        device: torch.device,
    ) -> tuple[list[UInt8[Tensor, "n V 3 h w"]], dict[int, UndecodableImageError]]:
        """What `cut` gives, and by its place what is wrong with each image that cannot be decoded after all."""
        table = _table(memory, len(rows), num_views)
        encoded = memory[table.nbytes :][: table[:, 0].sum()].split(table[:, 0].tolist())
        written = [place for place in range(len(rows)) if table[place, 0]]
        cut = []
        with _own_stream(device):
            images, errors = self._decode(written, rows, encoded, table[:, 1] > 0, device)
            good = list(images)
            boxes = table[good, _IMAGE_NUMBERS:].reshape(-1, _VIEW_NUMBERS).tolist()
            views = [View(top, left, height, width, bool(flip)) for top, left, height, width, flip in boxes]
            wanted = [image for image in images.values() for _ in range(num_views)]
            for preprocessing in preprocessings:
                shape = (len(rows), num_views, *preprocessing.input_size, 3)
                out = torch.zeros(shape, dtype=torch.uint8, device=device).permute(0, 1, 4, 2, 3)
                if wanted:
                    pixels = apply_views(wanted, views, preprocessing.input_size, preprocessing.interpolation)
                    out[torch.tensor(good, device=device)] = pixels.unflatten(0, (len(good), num_views))
                cut.append(_for_everybody(out))
        return cut, errors

    def _decode(
        self,
        written: Sequence[int],
        rows: Sequence[int],
        encoded: Sequence[UInt8[Tensor, "_"]],
        is_plain: Bool[ndarray, "n"],
        device: torch.device,
    ) -> tuple[dict[int, UInt8[Tensor, "3 _ _"]], dict[int, UndecodableImageError]]:
        """By place the images, or why one is none: by nvJPEG, where that is given them and can; else as `Source` does.

        Both in the order of the places.
        """
        plain = [place for place in written if is_plain[place]]
        by_gpu = dict(zip(plain, _by_nvjpeg([encoded[place] for place in plain], device), strict=True))
        images, errors = {}, {}
        for place in written:
            image = by_gpu.get(place)
            try:
                if image is None:
                    image = self.source.decode(rows[place], encoded[place].numpy().tobytes()).to(device)
                images[place] = image
            except UndecodableImageError as error:
                errors[place] = error
        return images, errors


def _by_nvjpeg(encoded: list[UInt8[Tensor, "_"]], device: torch.device) -> list[UInt8[Tensor, "3 _ _"] | None]:
    """Decoded images; None for what nvJPEG cannot decode, which it says of all that it is given at once."""
    try:
        return io.decode_jpeg(encoded, io.ImageReadMode.RGB, device=device) if encoded else []
    except RuntimeError as error:
        if "out of memory" in str(error):  # torchvision makes one kind of error of all
            raise
        half = len(encoded) // 2
        return _by_nvjpeg(encoded[:half], device) + _by_nvjpeg(encoded[half:], device) if half else [None]


def gpu_view(
    source: Source, row: int, view_index: int, policy: Policy, preprocessing: Preprocessing, device: torch.device
) -> UInt8[Tensor, "3 h w"]:
    """One view of one image; raises UndecodableImageError and DataError, as `EncodedViews` does."""
    encoded = EncodedViews(source=source, policy=policy)
    memory = torch.empty(encoded.num_bytes([row], 1), dtype=torch.uint8)
    encoded.write([row], [view_index], memory, lambda row: None)
    return encoded.cut([row], 1, memory, [preprocessing], device)[0][0, 0]


@contextlib.contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    """A stream beside the one that trains, for what is asked of a GPU in the context; done when that ends."""
    if device.type != "cuda":
        yield
        return
    if device.index is not None:
        torch.cuda.set_device(device)  # a thread begins on the first GPU, and would go back to it
    with torch.cuda.stream(_stream(device)):
        yield
    _stream(device).synchronize()


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    # Always the same: each stream keeps memory of its own.
    return torch.cuda.Stream(device)


def _for_everybody(images: Tensor) -> Tensor:
    """Memory of `_own_stream` that waits for the default stream's work on it before it is used again."""
    if images.is_cuda:
        images.record_stream(torch.cuda.default_stream(images.device))
    return images


def _table(memory: UInt8[Tensor, "bytes"], num_rows: int, num_views: int) -> Int32[ndarray, "n numbers"]:
    """The numbers of so many images with so many views each, at the head of a block of memory."""
    return memory.numpy()[: _table_bytes(num_rows, num_views)].view(np.int32).reshape(num_rows, -1)


def _table_bytes(num_rows: int, num_views: int) -> int:
    return num_rows * (_IMAGE_NUMBERS + _VIEW_NUMBERS * num_views) * np.dtype(np.int32).itemsize
