"""Random erasing: a box of noise or of one colour."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from pld.errors import ConfigError
from pld.randomness import raw_bits
from pld.views.steps.numbers import check_range, on_grid, uniform
from pld.views.steps.op import Op

_ATTEMPTS = 10  # as timm, before nothing is erased
_LEAST_RATIO = 0.01
_FILLS = ("pixel", "constant")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomErasing:
    """Erase a box (Zhong et al. 2020, arXiv:1708.04896), as timm does with one box.

    The box's sides and its place in the room that is left are fractions of the view's, so views of several sizes lose
    the same box. timm erases normalised images, and here pixels are erased: noise has ImageNet's mean and spread,
    rounded to grey levels and clipped to 0..255, which leaves out what no pixel can be, beyond about 2 deviations.

    Attributes:
        probability: that a box is erased.
        area: least and largest share of the view's area.
        ratio: least and largest height / width, in a square view; drawn log-uniformly.
        fill: "pixel" for normal noise, new in each pixel and channel; "constant" for ImageNet's mean colour.
    """

    name: ClassVar[str] = "random_erasing"
    probability: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    fill: str = "pixel"

    def __post_init__(self) -> None:
        check_range(self.name, "probability", self.probability, 0.0, 1.0)
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ConfigError(f"view policy: {self.name}'s area {self.area}; wanted 0 < least <= largest <= 1")
        if not _LEAST_RATIO <= self.ratio[0] <= self.ratio[1] <= 1 / _LEAST_RATIO:
            wanted = f"{_LEAST_RATIO} <= least <= largest <= {1 / _LEAST_RATIO:g}"
            raise ConfigError(f"view policy: {self.name}'s ratio {self.ratio}; wanted {wanted}")
        if self.fill not in _FILLS:
            raise ConfigError(f"view policy: {self.name}'s fill {self.fill!r}; wanted {' or '.join(_FILLS)}")

    def draw(self, identity: str) -> tuple[Op, ...]:
        """What one view gets: one box, or none."""
        applied, noise, top, left, *attempts = raw_bits(identity, 0, 4 + 2 * _ATTEMPTS)
        if uniform(applied) >= self.probability:
            return ()
        for area_bits, ratio_bits in zip(attempts[::2], attempts[1::2], strict=True):
            area = uniform(area_bits, *self.area)
            ratio = math.exp(uniform(ratio_bits, math.log(self.ratio[0]), math.log(self.ratio[1])))
            height, width = on_grid(math.sqrt(area * ratio)), on_grid(math.sqrt(area / ratio))
            if height < 1 and width < 1:
                box = (height, width, uniform(top), uniform(left))
                if self.fill == "constant":
                    return (Op("erase", box),)
                return (Op("erase_with_noise", (*box, float(noise >> 11))),)
        return ()
