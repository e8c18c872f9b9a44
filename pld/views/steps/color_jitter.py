"""Colour jitter: brightness, contrast, saturation and hue, in random order."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from pld.randomness import raw_bits
from pld.views.steps.numbers import check_range, uniform
from pld.views.steps.op import Op

_OPERATIONS = ("brightness", "contrast", "color", "hue")
_LARGEST = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColorJitter:
    """torchvision's ColorJitter for Pillow's images: each change by a uniform factor, in random order.

    Attributes:
        brightness, contrast, saturation: factors are drawn from max(0, 1 - x) to 1 + x; 0 leaves a change out.
        hue: added to the hue, -x to x of the colour circle, at most 0.5.
    """

    name: ClassVar[str] = "color_jitter"
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0

    def __post_init__(self) -> None:
        for parameter in ("brightness", "contrast", "saturation"):
            check_range(self.name, parameter, getattr(self, parameter), 0.0, _LARGEST)
        check_range(self.name, "hue", self.hue, 0.0, 0.5)

    def draw(self, identity: str) -> tuple[Op, ...]:
        """What one view gets: the changes that are not left out, in random order."""
        bits = raw_bits(identity, 0, 2 * len(_OPERATIONS))
        widths = (self.brightness, self.contrast, self.saturation, self.hue)
        ops = {}
        for name, width, number in zip(_OPERATIONS, widths, bits, strict=False):
            if width:
                centre = 0.0 if name == "hue" else 1.0
                low = centre - width if name == "hue" else max(0.0, centre - width)
                ops[name] = Op(name, (uniform(number, low, centre + width),))
        order = sorted(range(len(_OPERATIONS)), key=bits[len(_OPERATIONS) :].__getitem__)
        return tuple(ops[_OPERATIONS[i]] for i in order if _OPERATIONS[i] in ops)
