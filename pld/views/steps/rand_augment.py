"""RandAugment: a few operations chosen at random, of one magnitude."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import ClassVar

from pld.errors import ConfigError
from pld.randomness import raw_bits
from pld.views.steps.numbers import below, check_range, normal
from pld.views.steps.op import Op

_LARGEST = 10.0  # magnitude
_MOST_LAYERS = 16
_NUMBERS = 4  # raw numbers for each layer: the operation, whether it is applied, its magnitude, its sign


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandAugment:
    """RandAugment (Cubuk et al. 2020, arXiv:1909.13719) with timm's operations and scales: `rand-m9-mstd0.5-inc1`.

    Each layer is one of 15 operations, with probability 1/2. Rotations, shears and translations are bicubic, as DeiT
    and TinyViT train, where timm's own default draws bilinear or bicubic at random; what comes in from outside is
    ImageNet's mean colour. Translations are fractions of the view's side.

    Attributes:
        magnitude: of each operation, 0 to 10.
        layers: number of operations, drawn with replacement.
        magnitude_std: standard deviation of the normal numbers that magnitudes are drawn as; they are then clipped to
            0..10.
        increasing: whether posterize, solarize and the four enhancements change an image more where the magnitude is
            larger (timm's `inc1`). If not, they have the scales of the first TensorFlow code.
    """

    name: ClassVar[str] = "rand_augment"
    magnitude: float = 9.0
    layers: int = 2
    magnitude_std: float = 0.5
    increasing: bool = True

    def __post_init__(self) -> None:
        check_range(self.name, "magnitude", self.magnitude, 0.0, _LARGEST)
        check_range(self.name, "magnitude_std", self.magnitude_std, 0.0, 100.0)
        if not 1 <= self.layers <= _MOST_LAYERS:
            raise ConfigError(f"view policy: {self.name}'s layers {self.layers}; wanted 1 to {_MOST_LAYERS}")

    def draw(self, identity: str) -> tuple[Op, ...]:
        """What one view gets: none to `layers` operations."""
        bits = raw_bits(identity, 0, _NUMBERS * self.layers)
        return tuple(
            itertools.chain.from_iterable(map(self._draw_layer, *(bits[i::_NUMBERS] for i in range(_NUMBERS))))
        )

    def _draw_layer(self, choice: int, applied: int, strength: int, sign: int) -> tuple[Op, ...]:
        if applied >> 63:
            return ()
        name, argument = (_INCREASING if self.increasing else _PLAIN)[below(choice, len(_PLAIN))]
        if argument is None:
            return (Op(name),)
        magnitude = min(max(normal(strength, self.magnitude, self.magnitude_std), 0.0), _LARGEST)
        return (Op(name, (argument(magnitude / _LARGEST, -1 if sign >> 63 else 1),)),)


# An operation's argument from its level, 0 to 1, and a random sign.
_Argument = Callable[[float, int], float]


def _either_way(largest: float) -> _Argument:
    return lambda level, sign: sign * level * largest


def _whole(start: int, step: int) -> _Argument:
    """From start at level 0 to start + step at level 1, in whole steps."""
    return lambda level, _: float(start + (1 if step > 0 else -1) * int(level * abs(step)))


def _enhanced(level: float, _: int) -> float:
    return level * 1.8 + 0.1


def _enhanced_more(level: float, sign: int) -> float:
    return max(0.1, 1.0 + sign * (level * 0.9))


_PLAIN: list[tuple[str, _Argument | None]] = [
    ("auto_contrast", None),
    ("equalize", None),
    ("invert", None),
    ("rotate", _either_way(30.0)),
    ("posterize", _whole(0, 4)),
    ("solarize", _whole(0, 256)),
    ("solarize_add", _whole(0, 110)),
    ("color", _enhanced),
    ("contrast", _enhanced),
    ("brightness", _enhanced),
    ("sharpness", _enhanced),
    ("shear_x", _either_way(0.3)),
    ("shear_y", _either_way(0.3)),
    ("translate_x", _either_way(0.45)),
    ("translate_y", _either_way(0.45)),
]
_MORE: dict[str, _Argument] = {
    "posterize": _whole(4, -4),
    "solarize": _whole(256, -256),
    "color": _enhanced_more,
    "contrast": _enhanced_more,
    "brightness": _enhanced_more,
    "sharpness": _enhanced_more,
}
_INCREASING = [(name, _MORE.get(name, argument)) for name, argument in _PLAIN]
