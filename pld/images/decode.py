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


def decode_image(data: bytes) -> UInt8[Tensor, "3 H W"]:
    """Decode to RGB: a [3, H, W] view of an interleaved [H, W, 3] array, which is what `apply_view` likes best.

    Raises:
        UndecodableImageError: the bytes are no image in one of the formats, are cut short or damaged, or declare more
            than MAX_PIXELS. The caller knows the sample and names it.
    """
    if data[:2] == b"\xff\xd8":
        pixels = _decode_plain_jpeg(data)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(data)


def _decode_plain_jpeg(data: bytes) -> UInt8[Tensor, "3 H W"] | None:
    """The fast path; None where Pillow has to judge: CMYK, and anything libjpeg-turbo as much as warns about."""
    try:
        height, width, colour_space, _ = simplejpeg.decode_jpeg_header(data)
        if colour_space in ("CMYK", "YCCK") or height * width > MAX_PIXELS:
            return None
        return torch.from_numpy(simplejpeg.decode_jpeg(data)).permute(2, 0, 1)
    except ValueError:
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
