"""Operations as Pillow has them: what timm and torchvision do to Pillow's images, with the same arguments."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from pld.views.colours import MEAN_COLOUR

Pixels = UInt8[ndarray, "h w 3"]


def auto_contrast(pixels: Pixels) -> Pixels:
    """Each channel's darkest value becomes 0 and its lightest 255."""
    return np.array(ImageOps.autocontrast(Image.fromarray(pixels)))


def equalize(pixels: Pixels) -> Pixels:
    """Each channel's values become about equally frequent."""
    return np.array(ImageOps.equalize(Image.fromarray(pixels)))


def brightness(pixels: Pixels, factor: float) -> Pixels:
    """Blend with black: black at 0, the same image at 1."""
    return np.array(ImageEnhance.Brightness(Image.fromarray(pixels)).enhance(factor))


def contrast(pixels: Pixels, factor: float) -> Pixels:
    """Blend with the image's mean grey."""
    return np.array(ImageEnhance.Contrast(Image.fromarray(pixels)).enhance(factor))


def color(pixels: Pixels, factor: float) -> Pixels:
    """Blend with the grey image."""
    return np.array(ImageEnhance.Color(Image.fromarray(pixels)).enhance(factor))


def sharpness(pixels: Pixels, factor: float) -> Pixels:
    """Blend with the smoothed image."""
    return np.array(ImageEnhance.Sharpness(Image.fromarray(pixels)).enhance(factor))


def rotate(pixels: Pixels, degrees: float) -> Pixels:
    """Rotate counter-clockwise around the centre."""
    image = Image.fromarray(pixels)
    return np.array(image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=MEAN_COLOUR))


def affine(pixels: Pixels, matrix: tuple[float, ...]) -> Pixels:
    """The pixel at (x, y) comes from (a x + b y + c, d x + e y + f), where the matrix is a to f."""
    image = Image.fromarray(pixels)
    transform, mode = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    return np.array(image.transform(image.size, transform, matrix, mode, fillcolor=MEAN_COLOUR))


def blur(pixels: Pixels, radius: float) -> Pixels:
    """Gaussian blur; the radius is in pixels."""
    return np.array(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def hue(pixels: Pixels, shift: float) -> Pixels:
    """Turn the colour circle, in steps of 1/255, as torchvision's adjust_hue; the shift is a share of the circle."""
    hue, saturation, value = Image.fromarray(pixels).convert("HSV").split()
    turned = hue.point([(level + int(shift * 255)) % 256 for level in range(256)])
    return np.array(Image.merge("HSV", (turned, saturation, value)).convert("RGB"))
