"""ThreeAugment: grey, solarised or blurred."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from pld.randomness import raw_bits
from pld.views.steps.numbers import below, uniform
from pld.views.steps.op import Op

_LEAST_RADIUS, _LARGEST_RADIUS = 0.1, 2.0  # pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThreeAugment:
    """DeiT III's 3-Augment (Touvron et al. 2022, arXiv:2204.07118), timm's `3a`: one of three changes, each a third.

    Solarised from grey level 128 on, grey, or a Gaussian blur with a radius of 0.1 to 2 pixels of the output.
    """

    name: ClassVar[str] = "three_augment"

    def draw(self, identity: str) -> tuple[Op, ...]:
        """What one view gets: one operation."""
        choice, radius = raw_bits(identity, 0, 2)
        ops = (
            Op("solarize", (128.0,)),
            Op("color", (0.0,)),
            Op("blur", (uniform(radius, _LEAST_RADIUS, _LARGEST_RADIUS),)),
        )
        return (ops[below(choice, 3)],)
