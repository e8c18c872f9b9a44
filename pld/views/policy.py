"""View policies: how views are drawn, and their JSON form in a store's identity."""

from __future__ import annotations

import dataclasses
import reprlib
import sys
from collections.abc import Mapping
from typing import Any

from pld.errors import ConfigError
from pld.plugins import Registry, failed_plugins
from pld.views.crops import Fixed, RandomResizedCrop
from pld.views.mixing import CutMix, MixStep, Mixup
from pld.views.steps import ColorJitter, PixelStep, RandAugment, RandomErasing, ThreeAugment
from pld.views.view import View

# Part of every store's identity: incremented when the same (seed, key, index, policy) would give another crop.
DRAWING_VERSION = 1

Policy = RandomResizedCrop | Fixed

_POLICIES: dict[str, type[RandomResizedCrop] | type[Fixed]] = {
    "random_resized_crop": RandomResizedCrop,
    "fixed": Fixed,
}

# The steps by their names in JSON.
STEPS: Registry[Any] = Registry("view step")
STEPS.update({step.name: step for step in (RandAugment, ColorJitter, ThreeAugment, RandomErasing, Mixup, CutMix)})


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
        View(top=104, left=136, height=253, width=335, flip=False, ops=())
    """
    view = policy.draw(key, view_index, image_size)
    if not policy.steps:
        return view
    identity = f"{policy.seed}/{view_index}/{key}"
    # Each step has a stream of random bits of its own: a step more leaves what the others draw as it is.
    ops = tuple(op for step in pixel_steps(policy) for op in step.draw(f"{step.name}:{identity}"))
    return dataclasses.replace(view, ops=ops)


def pixel_steps(policy: Policy) -> tuple[PixelStep, ...]:
    """The steps that change an image's own pixels."""
    return tuple(step for step in policy.steps if not isinstance(step, Mixup | CutMix))


def mix_steps(policy: Policy) -> tuple[MixStep, ...]:
    """The steps that mix an image with another; none where views are not mixed."""
    return tuple(step for step in policy.steps if isinstance(step, Mixup | CutMix))


def policy_to_json(policy: Policy) -> dict[str, Any]:
    """The policy as plain JSON: its name and its parameters; `policy_from_json` reads it back.

    Steps, and what images are mixed with, are left out where there are none: policies from before there were steps have
    the JSON that they had.
    """
    name = next(name for name, kind in _POLICIES.items() if isinstance(policy, kind))
    described = {"name": name, **_parameters(policy)}
    steps = [{"name": step.name, **_parameters(step)} for step in described.pop("steps")]
    partners = described.pop("partners")
    return described | ({"steps": steps} if steps else {}) | ({"partners": partners} if mix_steps(policy) else {})


def policy_from_json(value: Any) -> Policy:
    """Parse a policy that `policy_to_json` wrote.

    Raises:
        ConfigError: it is no policy, or has a step that is not known here.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"view policy: found {reprlib.repr(value)}, wanted {_wanted(_POLICIES)}")
    found = {**value, "steps": value.get("steps", [])}
    if not isinstance(found["steps"], list):
        raise ConfigError(f"view policy: steps {reprlib.repr(found['steps'])}; wanted a list of {_wanted(STEPS)}")
    steps = tuple(_from_json(step, STEPS, "view step") for step in found.pop("steps"))
    policy: Policy = _from_json(found, _POLICIES, "view policy")
    return dataclasses.replace(policy, steps=steps)


def _wanted(kinds: Mapping[str, Any]) -> str:
    return f'{{"name": one of {", ".join(kinds)}, and its parameters}}'


def _parameters(part: Any) -> dict[str, Any]:
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return {k: list(v) if isinstance(v, tuple) and k != "steps" else v for k, v in values.items()}


def _from_json(value: Any, kinds: Mapping[str, Any], what: str) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or value["name"] not in kinds:
        missing = isinstance(value, dict) and isinstance(value.get("name"), str) and kinds is STEPS
        hint = f"; if {reprlib.repr(value['name'])} is a plug-in's, install the package that has it" if missing else ""
        failed = failed_plugins() if missing else ""
        raise ConfigError(f"{what}: found {reprlib.repr(value)}, wanted {_wanted(kinds)}{hint}{failed}")
    kind = kinds[value["name"]]
    parameters = {k: v for k, v in value.items() if k != "name"}
    known = {field.name: field.default for field in dataclasses.fields(kind) if field.name != "steps"}
    for name, found in parameters.items():
        if name not in known or not _fits(found, known[name]):
            raise ConfigError(
                f"{what} {value['name']}: parameter {reprlib.repr(name)} = {reprlib.repr(found)}; wanted {known}"
            )
    arguments: dict[str, Any] = {k: tuple(map(float, v)) if isinstance(v, list) else v for k, v in parameters.items()}
    if kinds is STEPS:  # 9 and 9.0 are one policy; a crop's number is kept as old stores have it
        arguments = {k: float(v) if isinstance(known[k], float) else v for k, v in arguments.items()}
    return kind(**arguments)


def _fits(found: Any, example: Any) -> bool:
    if isinstance(example, bool) or isinstance(found, bool):
        return isinstance(example, bool) and isinstance(found, bool)
    if isinstance(example, str):
        return isinstance(found, str)
    if isinstance(example, tuple):
        return isinstance(found, list | tuple) and len(found) == 2 and all(_fits(x, 1.0) for x in found)
    if isinstance(example, float):
        return isinstance(found, int | float) and abs(found) <= sys.float_info.max
    return isinstance(found, int)
