"""The crops that views are drawn as: random and resized, or fixed.

The generator is Philox, which is counter-based, keyed by a hash of (view seed, key, view index). Only its raw bits are
used, whose stream NumPy promises to keep, and never its distribution methods, which may change. Golden values pin the
result.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from pld.errors import ConfigError
from pld.randomness import raw_bits
from pld.views.mixing import Partners
from pld.views.steps import Step, check_steps
from pld.views.view import View

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop, before it falls back to the centre
_LEAST_RATIO = 0.001  # width / height; what is far beyond overflows
_DRAWN_AT_ONCE = 8  # uniform numbers; the first attempt takes five


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """A box of random area and aspect ratio (Inception's crop, as torchvision draws it), mirrored half the time.

    Attributes:
        scale: least and largest share of the image's area.
        ratio: least and largest width / height; drawn log-uniformly.
        flip: whether half of the views are mirrored; wrong for digits and letters.
        seed: the view seed.
        steps: what is done to the crop's pixels, in this order, and last what it is mixed with.
        partners: what images are mixed with, if they are.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    seed: int = 0
    steps: tuple[Step, ...] = ()
    partners: Partners = "shard"

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(f"view policy: scale {self.scale}; wanted 0 < least <= largest <= 1")
        if not _LEAST_RATIO <= self.ratio[0] <= self.ratio[1] <= 1 / _LEAST_RATIO:
            wanted = f"{_LEAST_RATIO} <= least <= largest <= {1 / _LEAST_RATIO:g}"
            raise ConfigError(f"view policy: ratio {self.ratio}; wanted {wanted}")
        check_steps(self.steps, self.partners)

    def draw(self, key: str, view_index: int, image_size: tuple[int, int]) -> View:
        """See `draw_view`."""
        height, width = image_size
        uniform = _uniforms(self.seed, key, view_index)
        flip = next(uniform) < 0.5 and self.flip
        log_ratio = (math.log(self.ratio[0]), math.log(self.ratio[1]))
        for _ in range(_ATTEMPTS):
            area = height * width * _between(next(uniform), *self.scale)
            ratio = math.exp(_between(next(uniform), *log_ratio))
            crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                top = int(next(uniform) * (height - crop_height + 1))
                left = int(next(uniform) * (width - crop_width + 1))
                return View(top, left, crop_height, crop_width, flip)
        return _largest_centre_crop(height, width, self.ratio, flip)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fixed:
    """The centre square, `crop_fraction` of the shorter side, the same for every view index: evaluation's crop.

    Resizing the shorter side to s and cropping c in the centre, as evaluation is usually described, is
    `crop_fraction = c / s`: 0.875 for 256 and 224.
    """

    crop_fraction: float = 0.875
    seed: int = 0
    steps: tuple[Step, ...] = ()
    partners: Partners = "shard"

    def __post_init__(self) -> None:
        if not 0 < self.crop_fraction <= 1:
            raise ConfigError(f"view policy: crop_fraction {self.crop_fraction}; wanted 0 < crop_fraction <= 1")
        check_steps(self.steps, self.partners)

    def draw(self, key: str, view_index: int, image_size: tuple[int, int]) -> View:
        """See `draw_view`."""
        height, width = image_size
        side = max(1, round(self.crop_fraction * min(height, width)))
        return View((height - side) // 2, (width - side) // 2, side, side, flip=False)


def _uniforms(seed: int, key: str, view_index: int) -> Iterator[float]:
    """Uniform numbers in [0, 1), 53 bits each, that depend on the three arguments alone."""
    identity, first = f"{seed}/{view_index}/{key}", 0
    while True:
        for bits in raw_bits(identity, first, _DRAWN_AT_ONCE):
            yield (bits >> 11) * 2.0**-53
        first += _DRAWN_AT_ONCE


def _between(uniform: float, low: float, high: float) -> float:
    return low + (high - low) * uniform


def _largest_centre_crop(height: int, width: int, ratio: tuple[float, float], flip: bool) -> View:
    """The largest centred box whose aspect ratio is allowed, for images too long for the drawn boxes."""
    crop_height, crop_width = height, width
    if width < ratio[0] * height:
        crop_height = min(height, max(1, round(width / ratio[0])))
    elif width > ratio[1] * height:
        crop_width = min(width, max(1, round(height * ratio[1])))
    return View((height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width, flip)
