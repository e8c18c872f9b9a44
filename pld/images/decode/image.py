"""Decode an image: ordinary JPEGs on a fast path, everything else with Pillow; both give the same pixels.

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
from PIL import Image, features
from PIL.TiffImagePlugin import BITSPERSAMPLE, TILELENGTH, TILEWIDTH, TiffImageFile
from torch import Tensor

from pld.errors import UndecodableImageError
from pld.images.decode.diagnosis import MAX_PIXELS, diagnose, diagnose_zero_fill
from pld.images.decode.jpeg_box import Box, decode_box
from pld.images.decode.jpeg_rows import decode_upper_rows

# The supported formats, and their extensions. Fewer formats are fewer decoders that a hostile file can reach.
EXTENSIONS = {"JPEG": ("jpg", "jpeg"), "PNG": ("png",), "BMP": ("bmp",), "PPM": ("ppm",), "GIF": ("gif",)}

# Formats that only some versions and builds of Pillow support.
if features.check_codec("libtiff"):
    EXTENSIONS["TIFF"] = ("tif", "tiff")
for _module in ("webp", "avif"):
    if _module in features.modules and features.check_module(_module):
        EXTENSIONS[_module.upper()] = (_module,)

IMAGE_EXTENSIONS = tuple(extension for extensions in EXTENSIONS.values() for extension in extensions)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of an ordinary JPEG, from its header alone; None for anything that Pillow has to decode."""
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
    """Decode to RGB: a [3, h, w] view of an interleaved [h, w, 3] array, the layout that is fastest in `apply_view`.

    Args:
        data: the encoded image.
        size: the result of `jpeg_size`, if the caller has it.
        box: the wanted part; None for the whole image. The rest is skipped if possible, so damage below the box may
            go unnoticed; the box's pixels are the same either way.

    Raises:
        UndecodableImageError: the bytes are not an image in a supported format, are truncated or damaged, or declare
            more than MAX_PIXELS. The message does not name the sample; the caller adds that.
    """
    size = size or jpeg_size(data)
    pixels = _decode_ordinary_jpeg(data, size, box) if size else _crop(_decode_with_pillow(data), box)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decode_ordinary_jpeg(data: bytes, size: tuple[int, int], box: Box | None) -> UInt8[ndarray, "h w 3"]:
    pixels = decode_box(data, size, box or (0, 0, *size))
    if pixels is not None:
        return pixels
    upper = decode_upper_rows(data, size, box[0] + box[2]) if box else None
    return _crop(_decode_whole_jpeg(data) if upper is None else upper, box)


def _crop(pixels: UInt8[ndarray, "H W 3"], box: Box | None) -> UInt8[ndarray, "h w 3"]:
    if box is None:
        return pixels
    top, left, height, width = box
    return pixels[top : top + height, left : left + width]


def _decode_whole_jpeg(data: bytes) -> UInt8[ndarray, "H W 3"]:
    """Decode with libjpeg-turbo, or with Pillow if that fails or warns."""
    try:
        return np.asarray(simplejpeg.decode_jpeg(data))
    except ValueError:
        return _decode_with_pillow(data)


def _decode_with_pillow(data: bytes) -> UInt8[ndarray, "H W 3"]:
    """Decode the first frame or page."""
    if zero_fill := diagnose_zero_fill(data):
        raise UndecodableImageError(f"cannot be decoded: {zero_fill}")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which does not affect the pixels.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=tuple(EXTENSIONS))
            _check_declared(image)
            return np.array(image.convert("RGB"))
    except (UndecodableImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers are partly Python: bytes can make them raise anything
        raise UndecodableImageError(f"cannot be decoded: {diagnose(data, error)}") from error


def _check_declared(image: Image.Image) -> None:
    """Raise UndecodableImageError for an unsupported size or bit depth, before memory is allocated for the pixels."""
    (width, height), kind = image.size, image.mode if image.mode.startswith(("I", "F")) else ""
    if isinstance(image, TiffImageFile):
        # A tile may be larger than its image. Pillow keeps the upper 8 bits of deeper channels, which are nearly black
        # if a camera fills the lower 12 of 16.
        width, height = max(width, image.tag_v2.get(TILEWIDTH, 0)), max(height, image.tag_v2.get(TILELENGTH, 0))
        bits = max(image.tag_v2.get(BITSPERSAMPLE, (1,)))
        kind = f"{bits}-bit" if bits > 8 and not kind else kind
    if width * height > MAX_PIXELS:
        found = f"declares {width} x {height} pixels, more than {MAX_PIXELS:,}"
        raise UndecodableImageError(f"cannot be decoded: {found}")
    if kind:
        raise UndecodableImageError(f"cannot be decoded: has {kind} pixels, wanted 8 bits a channel")
