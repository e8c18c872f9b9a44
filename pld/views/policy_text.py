"""View policies as people type them: `--policy rrc,flip,rand-m9-mstd0.5-inc1,erase-0.25`, or a preset's name."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable
from typing import Any

from pld.errors import ConfigError
from pld.plugins import OURS, failed_plugins
from pld.views.crops import Fixed, RandomResizedCrop
from pld.views.mixing import CutMix, Mixup
from pld.views.policy import STEPS, Policy, policy_from_json
from pld.views.steps import ColorJitter, RandAugment, RandomErasing, Step, ThreeAugment

# Steps that papers train with, after the dataset's own crop and flip. DeiT and TinyViT also list a colour jitter, which
# timm switches off beside RandAugment.
PRESETS = {
    "light": "",
    # Touvron et al. 2021, arXiv:2012.12877, table 9
    "deit": "rand-m9-mstd0.5-inc1,erase-0.25,mixup-0.8,cutmix-1.0",
    # Wu et al. 2022, arXiv:2207.10666, whose distillation mixes nothing
    "tinyvit": "rand-m9-mstd0.5-inc1,erase-0.25",
    # ResNet strikes back, Wightman et al. 2021, arXiv:2110.00476, procedure A1
    "a1": "rand-m7-mstd0.5-inc1,mixup-0.2,cutmix-1.0",
}
"""Policies by name, as one types their steps."""

_NUMBER = r"\d*\.?\d+"
# How each step is typed.
_FORMS = {
    "rrc": "rrc or rrc-LOW-HIGH, such as rrc-0.08-1",
    "fixed": "fixed or fixed-FRACTION, such as fixed-0.875",
    "random_resized_crop": "random_resized_crop (the dataset's own crop and flip)",
    "flip": "flip",
    "rand": "rand-m9-n2-mstd0.5-inc1 (timm's words: magnitude, layers, its deviation, increasing)",
    "jitter": "jitter-STRENGTH, such as jitter-0.4, or jitter-BRIGHTNESS-CONTRAST-SATURATION, or these and -HUE",
    "three": "three",
    "erase": "erase-PROBABILITY, such as erase-0.25, or erase-0.25-const",
    "mixup": "mixup-ALPHA, such as mixup-0.8",
    "cutmix": "cutmix-ALPHA, such as cutmix-1.0",
}

WORDS = frozenset(_FORMS) | frozenset(PRESETS)
"""The words that steps of other packages cannot have."""


def parse_policy(text: str, default: Policy, *, default_crop_fraction: float = 0.875) -> Policy:
    """The view policy that a text asks for, with the seed and the partners of `default`.

    Args:
        text: a preset's name; or steps separated by commas, in the order in which they are done: `rrc` or
            `rrc-LOW-HIGH` (share of the area) or `fixed` or `fixed-FRACTION`, `flip`, `rand-m9-n2-mstd0.5-inc1` as timm
            writes it, `jitter-0.4` or `jitter-B-C-S` or `jitter-B-C-S-H`, `three`, `erase-0.25` or `erase-0.25-const`,
            `mixup-0.8`, `cutmix-1.0`; or the JSON of `policy_to_json`. Crop and flip are the default's if neither
            `rrc` nor `fixed` is there; `rrc` without `flip` is not mirrored.
        default: the dataset's own policy.
        default_crop_fraction: of `fixed` without a fraction.

    Raises:
        ConfigError: a step is unknown, comes twice, at the wrong place, or with numbers that it does not take; or
            images would be mirrored that the dataset's policy does not mirror.

    Example:
        >>> from pld.views import RandomResizedCrop
        >>> [step.name for step in parse_policy("tinyvit", RandomResizedCrop()).steps]
        ['rand_augment', 'random_erasing']
    """
    try:
        if text.lstrip().startswith("{"):
            return _from_json_text(text, default)
        words = [word.strip() for word in text.strip().split(",")]
        if not all(words):
            raise ConfigError("found nothing before, after or between commas; wanted steps such as rrc,flip,erase-0.25")
        words = _without_presets(words)
        crop, rest = _parse_crop(words, default, default_crop_fraction)
        return dataclasses.replace(crop, steps=tuple(map(_parse_step, rest)))
    except ConfigError as error:
        raise ConfigError(f"--policy {text!r}: {error}") from error


def _without_presets(words: list[str]) -> list[str]:
    """The steps that the words stand for: a preset's, or themselves."""
    for word in words:
        if word in PRESETS and len(words) > 1:
            steps = PRESETS[word] or "no step"
            raise ConfigError(
                f"the preset {word} ({steps}) cannot be combined with steps; type its own steps, then others"
            )
    return [word for word in PRESETS[words[0]].split(",") if word] if words[0] in PRESETS else words


def _from_json_text(text: str, default: Policy) -> Policy:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f'not JSON ({error}); wanted such as \'{{"name": "fixed", "crop_fraction": 0.95}}\''
        ) from error
    if "seed" in value:
        raise ConfigError("the seed is given by --view_seed when a teacher is cached, by --seed without a store")
    own: dict[str, Any] = {"partners": default.partners}
    if isinstance(default, RandomResizedCrop) and value.get("name") == "random_resized_crop":
        own |= {"scale": default.scale, "ratio": default.ratio, "flip": default.flip}
    policy = dataclasses.replace(policy_from_json(own | value), seed=default.seed)
    if isinstance(policy, RandomResizedCrop) and policy.flip:
        _check_flip(policy, default, [])
    return policy


def _parse_crop(words: list[str], default: Policy, default_crop_fraction: float) -> tuple[Policy, list[str]]:
    """The crop that the first words ask for, without steps, and the words after it."""
    default = dataclasses.replace(default, steps=())
    crop: Policy = default
    name, *numbers = words[0].split("-") if words else [""]
    for word in words[:2]:
        if word.startswith("flip-"):
            raise _malformed(word)
    flips = "flip" in (words[0], *words[1:2]) if words else False
    if name in ("rrc", "random_resized_crop"):
        crop = _random_crop(words[0], numbers, default)
        if name == "rrc":
            crop = dataclasses.replace(crop, flip=flips)
    elif name == "fixed":
        fraction = _numbers(words[0], numbers, (0, 1))
        crop = Fixed(crop_fraction=fraction[0] if fraction else default_crop_fraction)
        crop = dataclasses.replace(crop, seed=default.seed, partners=default.partners)
    rest = words[(name in _CROPS) + (flips and name != "flip") + (name == "flip") :]
    if flips:
        _check_flip(crop, default, rest)
    for word in rest:
        if word.split("-")[0] in (*_CROPS, "flip"):
            raise ConfigError(f"{word} comes twice or too late; wanted rrc or fixed, once, then flip, then other steps")
    return crop, rest


def _random_crop(word: str, numbers: list[str], default: Policy) -> RandomResizedCrop:
    """The dataset's own random crop, or the usual one if it has none, with the scale that is given."""
    crop = RandomResizedCrop(seed=default.seed, partners=default.partners)
    crop = default if isinstance(default, RandomResizedCrop) else crop
    scale = _numbers(word, numbers, (0, 2) if word.startswith("rrc") else (0,))
    return dataclasses.replace(crop, scale=(scale[0], scale[1])) if scale else crop


def _check_flip(crop: Policy, default: Policy, rest: list[str]) -> None:
    if isinstance(crop, Fixed):
        raise ConfigError("fixed crops are not mirrored; leave flip out, or begin with rrc,flip")
    if isinstance(default, RandomResizedCrop) and not default.flip:
        raise ConfigError(
            "flip: the dataset's own policy does not mirror its images, as digits and letters must not be; "
            f"wanted {','.join(['rrc', *rest])}"
        )


def _parse_step(word: str) -> Step:
    name, *values = word.split("-")
    if name not in WORDS and name in STEPS and STEPS.owner(name) != OURS:
        return _by_numbers(STEPS[name], word, values)
    if name not in _STEPS:
        near = difflib.get_close_matches(name, [*_FORMS, *PRESETS], n=1)
        raise ConfigError(
            f"unknown step {word!r}{f'; is {near[0]} meant?' if near else ''}\n"
            f"  steps: {', '.join([*_FORMS.values(), *_plugin_steps()])}\n  presets: {', '.join(PRESETS)}"
            f"{failed_plugins()}"
        )
    return _STEPS[name](word, values)


def _numbers(word: str, values: list[str], counts: tuple[int, ...]) -> tuple[float, ...]:
    if len(values) not in counts or not all(re.fullmatch(_NUMBER, value) for value in values):
        raise _malformed(word)
    return tuple(map(float, values))


def _malformed(word: str) -> ConfigError:
    return ConfigError(f"found {word!r}; wanted {_FORMS[word.split('-')[0]]}")


def _plugin_steps() -> list[str]:
    """How the steps of other packages are typed."""
    return [_form(kind) for name, kind in STEPS.items() if STEPS.owner(name) != OURS]


def _form(kind: type[Any]) -> str:
    return "-".join([kind.name, *(field.name.upper() for field in _number_fields(kind))])


def _number_fields(kind: type[Any]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(kind) if type(field.default) in (int, float)]


def _by_numbers(kind: type[Any], word: str, values: list[str]) -> Step:
    """A step of another package: numbers for its number parameters, in their order; the rest are at their defaults."""
    fields = _number_fields(kind)[: len(values)]
    whole = [re.fullmatch(_NUMBER if type(f.default) is float else r"\d+", v) for f, v in zip(fields, values)]  # noqa: B905
    if len(fields) < len(values) or not all(whole):
        raise ConfigError(f"found {word!r}; wanted {kind.name} or {_form(kind)}")
    pairs = zip(fields, values, strict=True)
    numbers = {field.name: float(value) if type(field.default) is float else int(value) for field, value in pairs}
    step: Step = kind(**numbers)
    return step


def _rand(word: str, values: list[str]) -> Step:
    found: dict[str, str] = {}
    for value in values:
        match = re.fullmatch(rf"(m|mstd)({_NUMBER})|(n)(\d{{1,3}})|(inc)([01])", value)
        key, number = [group for group in match.groups() if group] if match else ("", "")
        if not match or key in found:
            raise _malformed(word)
        found[key] = number
    return RandAugment(  # with timm's defaults, which are not those of the class
        magnitude=float(found.get("m", 10)),
        layers=int(found.get("n", 2)),
        magnitude_std=float(found.get("mstd", 0)),
        increasing=found.get("inc") == "1",
    )


def _jitter(word: str, values: list[str]) -> Step:
    numbers = _numbers(word, values, (1, 3, 4))
    names = ("brightness", "contrast", "saturation", "hue")
    return ColorJitter(**dict(zip(names, numbers * 3 if len(numbers) == 1 else numbers, strict=False)))


def _three(word: str, values: list[str]) -> Step:
    _numbers(word, values, (0,))
    return ThreeAugment()


def _erase(word: str, values: list[str]) -> Step:
    is_constant = values[1:] == ["const"]
    (probability,) = _numbers(word, values[:1] if is_constant else values, (1,))
    return RandomErasing(probability=probability, fill="constant" if is_constant else "pixel")


def _mixup(word: str, values: list[str]) -> Step:
    return Mixup(alpha=_numbers(word, values, (1,))[0])


def _cutmix(word: str, values: list[str]) -> Step:
    return CutMix(alpha=_numbers(word, values, (1,))[0])


_CROPS = ("rrc", "fixed", "random_resized_crop")
_STEPS: dict[str, Callable[[str, list[str]], Step]] = {
    "rand": _rand,
    "jitter": _jitter,
    "three": _three,
    "erase": _erase,
    "mixup": _mixup,
    "cutmix": _cutmix,
}
