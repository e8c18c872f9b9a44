"""Draw a view: one crop and flip of one image, a pure function of (view seed, sample key, view index).

The generator is Philox, which is counter-based, keyed by a hash of the three. Only its raw bits are used, because NumPy
guarantees their stream; its distribution methods may change. Golden values pin the result.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from pld.randomness import raw_bits
from pld.views.policy import Fixed, Policy

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop, before it falls back to the centre
_DRAWN_AT_ONCE = 8  # uniform numbers; the first attempt takes five


@dataclasses.dataclass(frozen=True)
class View:
    """A crop box in pixels of the original image, and whether the crop is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def draw_view(key: str, view_index: int, image_size: tuple[int, int], policy: Policy) -> View:
    """Draw view `view_index` of the sample `key`.

    Args:
        key: the sample's key.
        view_index: 0, 1, ...; epoch e trains on view e mod V.
        image_size: (height, width) of the original image, pixels.
        policy: how views are drawn, with its seed.

    Example:
        >>> from pld.views import RandomResizedCrop
        >>> draw_view("n01440764_10026", 3, (375, 500), RandomResizedCrop(seed=0))
        View(top=104, left=136, height=253, width=335, flip=False)
    """
    height, width = image_size
    if isinstance(policy, Fixed):
        side = max(1, round(policy.crop_fraction * min(height, width)))
        return View((height - side) // 2, (width - side) // 2, side, side, flip=False)
    uniform = _uniforms(policy.seed, key, view_index)
    flip = next(uniform) < 0.5 and policy.flip
    log_ratio = (math.log(policy.ratio[0]), math.log(policy.ratio[1]))
    for _ in range(_ATTEMPTS):
        area = height * width * _between(next(uniform), *policy.scale)
        ratio = math.exp(_between(next(uniform), *log_ratio))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(next(uniform) * (height - crop_height + 1))
            left = int(next(uniform) * (width - crop_width + 1))
            return View(top, left, crop_height, crop_width, flip)
    return _largest_centre_crop(height, width, policy.ratio, flip)


def _uniforms(seed: int, key: str, view_index: int) -> Iterator[float]:
    """Uniform numbers in [0, 1), 53 bits each, that depend only on the three arguments."""
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
