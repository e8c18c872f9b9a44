"""A view: one crop and flip of one image, a pure function of (view seed, sample key, view index).

The teacher in stage one and the student in stage two draw the same views, on any machine, with any number of
workers, because nothing else enters: no position, epoch, rank or worker. `draw_view` draws, `apply_view` applies.

Randomness is Philox, a counter-based generator, keyed by a hash of the three; only its raw bits are used, whose
stream NumPy promises to keep, never its distribution methods, which may change. Golden values pin the result.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from pld.errors import ConfigError
from pld.randomness import raw_bits

# Part of every store's identity: raised when the same (seed, key, index, policy) would give another crop.
DRAWING_VERSION = 1

Interpolation = Literal["bilinear", "bicubic"]

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """A box of random area and aspect ratio (Inception's crop, as torchvision draws it), mirrored half the time.

    Attributes:
        scale: least and largest share of the image's area.
        ratio: least and largest width / height; drawn log-uniformly.
        flip: whether half of the views are mirrored; wrong for digits and letters.
        seed: the view seed.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(f"view policy: scale {self.scale}; wanted 0 < least <= largest <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"view policy: ratio {self.ratio}; wanted 0 < least <= largest")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fixed:
    """The centre square, `crop_fraction` of the shorter side, the same for every view index: evaluation's crop.

    Resizing the shorter side to s and cropping c in the centre, as evaluation is usually described, is
    `crop_fraction = c / s`: 0.875 for 256 and 224.
    """

    crop_fraction: float = 0.875
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.crop_fraction <= 1:
            raise ConfigError(f"view policy: crop_fraction {self.crop_fraction}; wanted 0 < crop_fraction <= 1")


Policy = RandomResizedCrop | Fixed

_POLICIES: dict[str, type[RandomResizedCrop] | type[Fixed]] = {
    "random_resized_crop": RandomResizedCrop,
    "fixed": Fixed,
}


def policy_to_json(policy: Policy) -> dict[str, Any]:
    """The policy as plain JSON: its name and its parameters; `policy_from_json` reads it back."""
    name = next(name for name, kind in _POLICIES.items() if isinstance(policy, kind))
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(policy).items()}
    return {"name": name, **values}


def policy_from_json(value: Any) -> Policy:
    """The policy that `policy_to_json` wrote; raises ConfigError for anything else."""
    wanted = f'{{"name": one of {", ".join(_POLICIES)}, and its parameters}}'
    if not isinstance(value, dict) or value.get("name") not in _POLICIES:
        raise ConfigError(f"view policy: found {value!r}, wanted {wanted}")
    kind = _POLICIES[value["name"]]
    parameters = {k: v for k, v in value.items() if k != "name"}
    known = {field.name: field.default for field in dataclasses.fields(kind)}
    for name, found in parameters.items():
        if name not in known or not _fits(found, known[name]):
            raise ConfigError(f"view policy {value['name']}: parameter {name} = {found!r}; wanted {known}")
    arguments: dict[str, Any] = {k: tuple(map(float, v)) if isinstance(v, list) else v for k, v in parameters.items()}
    return kind(**arguments)


def _fits(found: Any, example: Any) -> bool:
    if isinstance(example, bool) or isinstance(found, bool):
        return isinstance(example, bool) and isinstance(found, bool)
    if isinstance(example, tuple):
        return isinstance(found, list | tuple) and len(found) == 2 and all(_fits(x, 1.0) for x in found)
    if isinstance(example, float):
        return isinstance(found, int | float) and math.isfinite(found)
    return isinstance(found, int)


def draw_view(key: str, view_index: int, image_size: tuple[int, int], policy: Policy) -> View:
    """Draw view `view_index` of the sample `key`.

    Args:
        key: the sample's key.
        view_index: 0, 1, ...; epoch e trains on view e mod V.
        image_size: (height, width) of the original image, pixels.
        policy: how views are drawn, with its seed.

    Example:
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


def apply_view(
    image: UInt8[Tensor, "3 H W"],
    view: View,
    output_size: int | tuple[int, int],
    interpolation: Interpolation = "bicubic",
    *,
    out: UInt8[Tensor, "3 h w"] | None = None,
) -> UInt8[Tensor, "3 h w"]:
    """Cut the view out of its image and resize it, antialiased, to `output_size` (side, or (height, width)).

    Fastest when `image` is a permuted [H, W, 3] array, as decoders give it. The result is written to `out` if given.

    Example:
        >>> image = torch.zeros(3, 375, 500, dtype=torch.uint8)
        >>> view = draw_view("n01440764_10026", 3, (375, 500), RandomResizedCrop(seed=0))
        >>> apply_view(image, view, 224).shape
        torch.Size([3, 224, 224])
    """
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    box = image.narrow(1, view.top, view.height).narrow(2, view.left, view.width)
    # Left to itself, interpolate takes a box cut out of channels last for channels first, and turns it round twice; so
    # it does with one that has the strides of channels last in all dimensions but the batch.
    box = box.permute(1, 2, 0).contiguous().unsqueeze(0).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(box, size=size, mode=interpolation, antialias=True).squeeze(0)
    pixels = resized.flip(2) if view.flip else resized
    return pixels if out is None else out.copy_(pixels)


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
