"""View policies: how views are drawn, and their JSON form in a store's identity."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pld.errors import ConfigError

# Part of every store's identity: incremented when the same (seed, key, index, policy) would give another crop.
DRAWING_VERSION = 1


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
    """Parse a policy that `policy_to_json` wrote; raises ConfigError for anything else."""
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
