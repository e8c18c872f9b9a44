"""Bytes to pixels. Ordinary JPEGs go a fast way, everything else through Pillow; both give the same pixels.

Orientation tags are ignored and CMYK is converted as Pillow does it, because that is what ImageNet models saw.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import simplejpeg
import torch
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from pld.errors import UndecodableImageError
from pld.images.jpeg_box import Box, decode_box
from pld.images.jpeg_rows import decode_upper_rows

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "ppm")

# What those extensions hold. Fewer formats are fewer decoders that a hostile file can reach.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")

# ImageNet's largest photo has 32 million pixels; a bomb of a few KB can declare billions.
MAX_PIXELS = 100_000_000


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of an ordinary JPEG, from its header alone; None for what Pillow has to judge."""
    if data[:2] != b"\xff\xd8":
        return None
    try:
        height, width, colour_space, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):  # KeyError for 4:4:1
        return None
    return None if colour_space in ("CMYK", "YCCK") or height * width > MAX_PIXELS else (height, width)


def jpeg_colours(data: bytes) -> str:
    """How an ordinary JPEG holds its colours: "YCbCr", "Gray" or "RGB"."""
    return str(simplejpeg.decode_jpeg_header(data)[2])


def decode_image(data: bytes, size: tuple[int, int] | None = None, box: Box | None = None) -> UInt8[Tensor, "3 h w"]:
    """Decode to RGB: a [3, h, w] view of an interleaved [h, w, 3] array, which is what `apply_view` likes best.

    Args:
        data: the encoded image.
        size: what `jpeg_size` said, where it was asked.
        box: the part that is wanted; all of the image where None. What lies beside it is left out of the work where
            that can be done, so damage below it may pass unnoticed; its pixels are the same.

    Raises:
        UndecodableImageError: the bytes are no image in one of the formats, are cut short or damaged, or declare more
            than MAX_PIXELS. The caller knows the sample and names it.
    """
    size = size or jpeg_size(data)
    pixels = _decode_ordinary_jpeg(data, size, box) if size else _cut(_decode_with_pillow(data), box)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decode_ordinary_jpeg(data: bytes, size: tuple[int, int], box: Box | None) -> UInt8[ndarray, "h w 3"]:
    pixels = decode_box(data, size, box or (0, 0, *size))
    if pixels is not None:
        return pixels
    upper = decode_upper_rows(data, size, box[0] + box[2]) if box else None
    return _cut(_decode_whole_jpeg(data) if upper is None else upper, box)


def _cut(pixels: UInt8[ndarray, "H W 3"], box: Box | None) -> UInt8[ndarray, "h w 3"]:
    if box is None:
        return pixels
    top, left, height, width = box
    return pixels[top : top + height, left : left + width]


def _decode_whole_jpeg(data: bytes) -> UInt8[ndarray, "H W 3"]:
    """By libjpeg-turbo; what it as much as warns of, Pillow judges."""
    try:
        return np.asarray(simplejpeg.decode_jpeg(data))
    except ValueError:
        return _decode_with_pillow(data)


def _decode_with_pillow(data: bytes) -> UInt8[ndarray, "H W 3"]:
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which the pixels do not depend on.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise UndecodableImageError(f"declares {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
            if image.mode.startswith(("I", "F")):
                raise UndecodableImageError(f"has {image.mode} pixels, wanted 8 bits a channel")
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UndecodableImageError(f"cannot be decoded: {error or type(error).__name__}") from error
