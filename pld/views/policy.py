"""View policies: how views are drawn, and their JSON form in a store's identity."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pld.errors import ConfigError
from pld.views.crops import Fixed, RandomResizedCrop
from pld.views.view import View

# Part of every store's identity: incremented when the same (seed, key, index, policy) would give another crop.
DRAWING_VERSION = 1

Policy = RandomResizedCrop | Fixed

_POLICIES: dict[str, type[RandomResizedCrop] | type[Fixed]] = {
    "random_resized_crop": RandomResizedCrop,
    "fixed": Fixed,
}


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
    return policy.draw(key, view_index, image_size)


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
