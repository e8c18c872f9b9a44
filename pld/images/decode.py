"""Bytes to pixels. libjpeg-turbo decodes ordinary JPEGs, Pillow everything else; both give the same pixels.

Orientation tags are ignored and CMYK is converted as Pillow does it, because that is what ImageNet models saw.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import simplejpeg
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from pld.errors import UndecodableImageError

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "ppm")

# What those extensions hold. Fewer formats are fewer decoders that a hostile file can reach.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")

# ImageNet's largest photo has 32 million pixels; a bomb of a few KB can declare billions.
MAX_PIXELS = 100_000_000

# Segments before a sequential JPEG's frame header; a restart interval (0xDD) is none of them, see `_cut_below`.
_TABLES = frozenset((*range(0xE0, 0xF0), 0xDB, 0xC4, 0xFE))
_SEQUENTIAL = (0xC0, 0xC1)

# Chroma is interpolated between rows, so the last wanted row needs the next one too.
_CONTEXT_ROWS = 4

# Fewer rows than this are not worth the attempt.
_LEAST_SAVED_ROWS = 16


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of an ordinary JPEG, from its header alone; None for what Pillow has to judge."""
    if data[:2] != b"\xff\xd8":
        return None
    try:
        height, width, colour_space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return None if colour_space in ("CMYK", "YCCK") or height * width > MAX_PIXELS else (height, width)


def jpeg_colours(data: bytes) -> str:
    """How an ordinary JPEG holds its colours: "YCbCr", "Gray" or "RGB"."""
    return str(simplejpeg.decode_jpeg_header(data)[2])


def decode_image(
    data: bytes, num_rows: int | None = None, size: tuple[int, int] | None = None
) -> UInt8[Tensor, "3 H W"]:
    """Decode to RGB: a [3, H, W] view of an interleaved [H, W, 3] array, which is what `apply_view` likes best.

    Args:
        data: the encoded image.
        num_rows: how many rows are wanted, from the top; where leaving out the others saves time, H is less than the
            image's height. The pixels of those decoded are the same. All where None.
        size: what `jpeg_size` said, where it was asked.

    Raises:
        UndecodableImageError: the bytes are no image in one of the formats, are cut short or damaged, or declare more
            than MAX_PIXELS. The caller knows the sample and names it.
    """
    size = size or jpeg_size(data)
    pixels = _decode_plain_jpeg(data, size, num_rows) if size else None
    return _decode_with_pillow(data) if pixels is None else torch.from_numpy(pixels).permute(2, 0, 1)


def _decode_plain_jpeg(data: bytes, size: tuple[int, int], num_rows: int | None) -> UInt8[np.ndarray, "H W 3"] | None:
    """The fast path; None where libjpeg-turbo as much as warns."""
    if num_rows is not None and size[0] - num_rows >= _LEAST_SAVED_ROWS + _CONTEXT_ROWS:
        pixels = _decode_upper_rows(data, num_rows + _CONTEXT_ROWS, size[1])
        if pixels is not None:
            return pixels
    try:
        return np.asarray(simplejpeg.decode_jpeg(data))
    except ValueError:
        return None


def _decode_upper_rows(data: bytes, num_rows: int, width: int) -> UInt8[np.ndarray, "h W 3"] | None:
    """The first rows alone, the lower ones not even read; None where that cannot be done or something is amiss.

    The decoder is told of a lower image. What is left of the data it reports as bytes too many, behind the last row
    and in front of the image's end: as it keeps its first warning, no other came before.
    """
    cut = _cut_below(data, num_rows)
    if cut is None:
        return None
    pixels = np.empty((num_rows, width, 3), np.uint8)
    try:
        simplejpeg.decode_jpeg(cut, buffer=pixels)
    except ValueError as warning:
        return pixels if str(warning).endswith("extraneous bytes before marker 0xd9") else None
    return pixels


def _cut_below(data: bytes, num_rows: int) -> bytearray | None:
    """The JPEG with a lower height in its frame header; None for progressive ones and those with restart markers."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _SEQUENTIAL:
            cut = bytearray(data)
            cut[at + 5 : at + 7] = num_rows.to_bytes(2, "big")
            return cut
        if marker not in _TABLES:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _decode_with_pillow(data: bytes) -> UInt8[Tensor, "3 H W"]:
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which the pixels do not depend on.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise UndecodableImageError(f"declares {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
            if image.mode.startswith(("I", "F")):
                raise UndecodableImageError(f"has {image.mode} pixels, wanted 8 bits a channel")
            pixels = np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UndecodableImageError(f"cannot be decoded: {error or type(error).__name__}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)
