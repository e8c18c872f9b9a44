"""How one glyph image is drawn: a character of a random font, deformed, coloured, partly covered, blurred and noisy.

Every choice follows from the sample's identity alone, (seed, split, index), so a sample looks the same however many
others are made and in whatever order. Only Philox's raw bits are used: NumPy keeps that stream, whereas its
distribution methods may change between versions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from pld.errors import DataError
from pld.extras import install_hint
from pld.randomness import philox

CHARACTERS = "".join(chr(code) for code in range(33, 127))

# The text fonts that matplotlib ships, by name: a later matplotlib with more fonts must not change the dataset.
# Left out are the maths extensions, the size variants and LastResort, which draws every character as a boxed A.
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmb10", "cmr10", "cmss10", "cmti10", "cmtt10"),
)
# Knuth's text fonts have other signs in these places (a dash for "{", a pound for "$"); his typewriter font has not.
_UNLIKE_ASCII = frozenset('"$<>\\^_`{|}~')
_KNUTH_TEXT_FONTS = frozenset(("cmb10", "cmr10", "cmss10", "cmti10"))

_EM = 64  # pixels per em of the masks that samples are drawn from
_SUPERSAMPLING = 2
_NUM_BARS = 2
_UNITS_A_SAMPLE = 64

# What is drawn, as ranges of uniform numbers. Lengths are fractions of the image's side, angles degrees, colours 0..1.
_EXTENT = (0.55, 0.95)
_ROTATION = (-20.0, 20.0)
_SHEAR = (-0.25, 0.25)
_STRETCH = (0.8, 1.25)
_SHIFT = (-0.1, 0.1)
_DROP_KEPT = 0.4  # of a character's height on the line: "'" and "," stay tellable, often
_BLUR = (0.0, 0.045)
_BACKGROUND = (0.0, 0.45)
_CONTRAST = (0.25, 0.6)
_TINT = (0.6, 1.4)
_DARK_ON_LIGHT = 0.15
_BAR_PRESENT = 0.5
_BAR_WIDTH = (0.06, 0.16)
_BAR_OFFSET = (-0.35, 0.35)
_NOISE = (0.03, 0.12)


class Glyph(NamedTuple):
    """One character of one font: its ink cropped from the page, and how far its middle lies below the line's."""

    mask: Image.Image
    drop_em: float


class _Draws:
    """A sample's random numbers, handed out in order."""

    def __init__(self, identity: str) -> None:
        self._bits = philox(identity)
        # The upper 53 of 64 raw bits make a number in [0, 1); all that a sample needs are made at once.
        units: list[float] = ((self._bits.random_raw(_UNITS_A_SAMPLE) >> np.uint64(11)) * 2.0**-53).tolist()
        self._units = iter(units)

    def between(self, low: float, high: float) -> float:
        """One number between two bounds."""
        return low + (high - low) * next(self._units)

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return next(self._units) < probability

    def near_normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Numbers of mean 0 and variance 1: sums of four bytes, which unlike logarithms are exact everywhere."""
        count = math.prod(shape)
        octets = self._bits.random_raw(-(-count // 2)).astype("<u8", copy=False).view(np.uint8)
        sums = octets.astype(np.int16).reshape(-1, 4) @ np.ones(4, np.int16)
        return ((sums[:count] - np.float32(510)) / np.float32(math.sqrt(4 * (256**2 - 1) / 12))).reshape(shape)


def load_glyphs() -> Mapping[str, Sequence[Glyph]]:
    """Every character's glyphs, one for each font that has it.

    Raises:
        DataError: matplotlib, whose fonts are used, is not installed or lacks one of them.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise DataError(
            "glyphs: the dataset is drawn with matplotlib's fonts, and matplotlib is not installed; "
            f"run {install_hint('report')}"
        ) from error
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    glyphs: dict[str, list[Glyph]] = {character: [] for character in CHARACTERS}
    for name in FONTS:
        path = folder / f"{name}.ttf"
        if not path.is_file():
            raise DataError(f"glyphs: {path} is missing; reinstall matplotlib, whose fonts the dataset is drawn with")
        font = ImageFont.truetype(str(path), _EM, layout_engine=ImageFont.Layout.BASIC)
        for character in CHARACTERS:
            if not (name in _KNUTH_TEXT_FONTS and character in _UNLIKE_ASCII):
                glyphs[character].append(_rasterize(font, character))
    return glyphs


def _rasterize(font: ImageFont.FreeTypeFont, character: str) -> Glyph:
    page = Image.new("L", (3 * _EM, 3 * _EM))
    ImageDraw.Draw(page).text((_EM, 2 * _EM), character, fill=255, font=font, anchor="ls")
    ink = page.getbbox()
    if ink is None:
        raise DataError(f"glyphs: {font.path!r} draws nothing for {character!r}; reinstall matplotlib")
    left, top, right, bottom = ink
    # The line's middle is taken a third of an em above its base.
    drop_em = (top + bottom) / 2 / _EM - (2 - 1 / 3)
    # A border without ink, so that interpolation fades out at the edges.
    return Glyph(page.crop((left - 2, top - 2, right + 2, bottom + 2)), drop_em)


def render_glyph(glyphs: Sequence[Glyph], identity: str, size: int) -> NDArray[np.uint8]:
    """Draw the sample of this identity, uint8 [size, size, 3], from one of a character's glyphs."""
    draws = _Draws(identity)
    glyph = glyphs[int(draws.between(0.0, float(len(glyphs))))]
    ink = _draw_ink(glyph, draws, size)
    background = draws.between(*_BACKGROUND) * _tint(draws)
    contrast = draws.between(*_CONTRAST) * _tint(draws)
    image = background + ink[..., None] * contrast
    for _ in range(_NUM_BARS):
        if draws.happens(_BAR_PRESENT):
            image += _draw_bar(draws, size)[..., None] * (_colour(draws) - image)
    if draws.happens(_DARK_ON_LIGHT):
        image = 1 - image
    image += np.float32(draws.between(*_NOISE)) * draws.near_normal(image.shape)
    rounded: NDArray[np.uint8] = (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return rounded


def _draw_ink(glyph: Glyph, draws: _Draws, size: int) -> NDArray[np.float32]:
    """How much ink each pixel has, [size, size] in 0..1."""
    canvas = size * _SUPERSAMPLING
    width, height = glyph.mask.size
    # A full stop is drawn smaller than a capital, but less so than on a page: size alone must not give it away.
    side = draws.between(*_EXTENT) * canvas * min(1.0, math.sqrt(max(width, height) / (0.75 * _EM)))
    angle, shear = math.radians(draws.between(*_ROTATION)), draws.between(*_SHEAR)
    scale, stretch = side / max(width, height), draws.between(*_STRETCH)
    middle_x = canvas * (0.5 + draws.between(*_SHIFT))
    middle_y = canvas * (0.5 + draws.between(*_SHIFT) + _DROP_KEPT * glyph.drop_em)
    # The inverse of rotate(angle) . shear . diag(scale * stretch, scale), since PIL maps the canvas to the mask.
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    a, b = (cos + shear * sin) / stretch, (sin - shear * cos) / stretch
    d, e = -sin, cos
    to_mask = (a, b, width / 2 - a * middle_x - b * middle_y, d, e, height / 2 - d * middle_x - e * middle_y)
    ink = glyph.mask.transform((canvas, canvas), Image.Transform.AFFINE, to_mask, Image.Resampling.BILINEAR)
    blurred = ink.reduce(_SUPERSAMPLING).filter(ImageFilter.GaussianBlur(draws.between(*_BLUR) * size))
    return np.asarray(blurred, dtype=np.float32) / np.float32(255)


def _draw_bar(draws: _Draws, size: int) -> NDArray[np.float32]:
    """How much of each pixel a straight bar across the image covers, [size, size] in 0..1."""
    angle = draws.between(0.0, math.pi)
    offset, width = draws.between(*_BAR_OFFSET) * size, draws.between(*_BAR_WIDTH) * size
    axis = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    across = (axis * np.float32(math.cos(angle)))[None, :] + (axis * np.float32(math.sin(angle)) - offset)[:, None]
    return np.clip(np.float32(width / 2 + 0.5) - np.abs(across), 0, 1)


def _colour(draws: _Draws) -> NDArray[np.float32]:
    return np.array([draws.between(0.0, 1.0) for _ in range(3)], np.float32)


def _tint(draws: _Draws) -> NDArray[np.float32]:
    """Factors for red, green and blue whose mean is 1."""
    factors = [draws.between(*_TINT) for _ in range(3)]
    return np.array(factors, np.float32) / np.float32(sum(factors) / 3)
