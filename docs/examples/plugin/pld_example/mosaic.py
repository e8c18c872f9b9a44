"""A view step with an operation of its own: `cache-teacher --policy rrc,flip,mosaic-8`."""

import dataclasses
from typing import ClassVar

import numpy as np

from pld.randomness import raw_bits
from pld.views import Op, register_policy_step


def mosaic(pixels: np.ndarray, side: float) -> np.ndarray:
    """Squares of one colour each, of `side` pixels: that of their upper left corner."""
    height, width = pixels.shape[:2]
    rows, columns = (np.arange(length) // int(side) * int(side) for length in (height, width))
    return pixels[rows[:, None], columns]


@register_policy_step(operations={"mosaic": mosaic})
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mosaic:
    """Squares of 2 to `largest` pixels, in half of the views."""

    name: ClassVar[str] = "mosaic"
    largest: int = 4

    def draw(self, identity: str) -> tuple[Op, ...]:
        """The random numbers are raw bits of the identity, and nothing else."""
        switch, side = raw_bits(identity, 0, 2)
        return (Op("mosaic", (float(2 + side % max(1, self.largest - 1)),)),) if switch % 2 else ()
