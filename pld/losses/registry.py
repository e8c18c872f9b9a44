"""A registry of losses by recipe name: `@loss` registers a function, and its signature defines the settings.

Others know the decorator as `pld.losses.register_loss`: their losses and ours are registered alike.

A loss takes (student_logits, teacher, labels, weight), or no teacher if it needs none; labels may be None if it needs
none. Its keyword-only parameters are its settings: their annotations carry checks, and help texts for those that are
options of recipes. A loss that can use a truncated teacher where that is not exact takes `approximate: bool = False`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from torch import Tensor

from pld.errors import SignalError
from pld.losses.arguments import check_batch
from pld.losses.contract import check_loss
from pld.losses.settings import check_settings, split_annotation
from pld.plugins import OURS, Registry
from pld.signals import MixedLabels

F = TypeVar("F", bound=Callable[..., Tensor])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss as a recipe names it.

    Attributes:
        function: the loss function, wrapped by `@loss` to check its arguments.
        needs_teacher: whether it takes a teacher.
        defaults: its settings and what the name stands for; not the reduction, which is given per call.
        all_classes: why it needs every class of the teacher at any temperature, if it does.
        without_label: whether it takes images without labels: always, never, or where the setting of this name is 0.
        mixed_labels: whether it takes the MixedLabels of mixed images.
        label_part: what the labels contribute to each sample's loss, [B]: their weight times the cross entropy; takes
            the loss's arguments and settings. None where that is not told apart from the teacher's part.
        sampled_tail: whether a sampled tail gives it unbiased estimates, so that it then needs no other class.
        same_k: why it needs the same k of every sample, if it does.
    """

    function: Callable[..., Tensor]
    needs_teacher: bool
    defaults: Mapping[str, Any]
    all_classes: str | None
    without_label: bool | str
    mixed_labels: bool
    label_part: Callable[..., Tensor] | None
    sampled_tail: bool
    same_k: str | None

    def why_label(self, settings: Mapping[str, Any]) -> str | None:
        """Why it needs a label for each image with these settings, or None where it needs none."""
        if isinstance(self.without_label, bool):
            return None if self.without_label else "it is defined by the label"
        weight = settings[self.without_label]
        return f"{self.without_label} = {weight:g} is the weight of the label's term" if weight else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting that recipes may give.

    Attributes:
        name: what the loss functions call it.
        type: float, bool or a Literal.
        help: what it is, in a line.
        losses: the recipe names of the losses that take it.
    """

    name: str
    type: Any
    help: str
    losses: tuple[str, ...]

    @property
    def is_of_plugins(self) -> bool:
        """Whether only losses take it that others have registered."""
        return all(LOSSES.owner(name) != OURS for name in self.losses)


LOSSES: Registry[Loss] = Registry("loss")


def loss(
    name: str,
    *,
    all_classes: str | None = None,
    without_label: bool | str = False,
    mixed_labels: bool = False,
    label_part: Callable[..., Tensor] | None = None,
    sampled_tail: bool = False,
    same_k: str | None = None,
    **variants: Mapping[str, Any],
) -> Callable[[F], F]:
    """Register a loss function, and check its arguments whenever it is called.

    Args:
        name: the recipe's name for it.
        all_classes: why it needs every class of the teacher at any temperature; above T = 1 every loss does.
        without_label: whether it takes labels=None: True, False, or the name of the setting that must be 0 for that.
        mixed_labels: whether it takes MixedLabels, the labels of mixed images (mixup, CutMix).
        label_part: (student_logits, teacher, labels, **settings) -> [B], what the labels contribute to each sample's
            loss, if it is to be logged apart; gradients are not asked for.
        sampled_tail: whether it makes unbiased estimates of a TopK's sampled tail, and then needs no other class.
        same_k: why it needs the same k of every sample; others take as many classes of each as an error asks for.
        variants: more recipe names, each with the settings that it stands for.

    Raises:
        PluginError: a name is taken, or the function's parameters are not a loss's; when it decorates the function.
    """

    def register(function: F) -> F:
        check_loss(function, (known.function for known in LOSSES.data.values()))
        parameters = inspect.signature(function).parameters
        names = tuple(parameters)
        required = [name for name in names if parameters[name].default is inspect.Parameter.empty]
        settings = [p for p in parameters.values() if p.kind is p.KEYWORD_ONLY and p.name != "reduction"]
        defaults = {parameter.name: parameter.default for parameter in settings}

        @check_settings
        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Tensor:
            given = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
            if all(name in given for name in required):  # else the call raises TypeError
                if isinstance(given["labels"], MixedLabels) and not mixed_labels:
                    raise SignalError(
                        f"{function.__name__}: labels: found MixedLabels, wanted int64 [B]: it takes one label each. "
                        "Train on views without mixup and cutmix, or let the loss weigh both labels and register it by "
                        "@register_loss(..., mixed_labels=True)"
                    )
                if given["labels"] is None and (why := LOSSES[name].why_label(given)):
                    raise SignalError(
                        f"{function.__name__}: labels: found None, wanted int64 [B]: {why}. Losses that need no "
                        f"labels: {losses_without_labels()}"
                    )
                reason = why_all_classes(all_classes, given.get("temperature"))
                check_batch(function.__name__, reason, sampled_tail, same_k, **given)
            return function(*args, **kwargs)

        for each, preset in {name: {}, **variants}.items():
            described = Loss(
                function=checked,
                needs_teacher="teacher" in names,
                defaults={**defaults, **preset},
                all_classes=all_classes,
                without_label=without_label,
                mixed_labels=mixed_labels,
                label_part=label_part,
                sampled_tail=sampled_tail,
                same_k=same_k,
            )
            LOSSES.register(each, described, function)
        return cast(F, checked)

    return register


def why_all_classes(always: str | None, temperature: float | None) -> str | None:
    """Why a loss needs every class of the teacher, or None where any top-k will do.

    Above T = 1 most of the teacher's mass leaves a small top-k: of an ImageNet teacher, k = 50 of 1000, 1.4 % is
    outside at T = 1 and 52 % at T = 2.
    """
    if temperature is not None and temperature > 1:
        return f"at temperature {temperature:g} much of the teacher's mass is outside the top-k"
    return always


def temperatures_of(settings: Mapping[str, Any]) -> tuple[float, ...]:
    """The temperatures at which a loss with these settings looks at the teacher: "temperature" and "*_temperature"."""
    return tuple(float(value) for name, value in settings.items() if name.endswith("temperature"))


def loss_names() -> tuple[str, ...]:
    """The names that `build_loss` knows."""
    return tuple(LOSSES)


def losses_without_labels(at_zero: str = "{} = 0") -> str:
    """The losses that take images without labels, as text; `at_zero` is how a setting that must be 0 is written."""
    found = {name: described.without_label for name, described in LOSSES.items() if described.without_label}
    return _enumerate([name if how is True else f"{name} with {at_zero.format(how)}" for name, how in found.items()])


def loss_settings() -> tuple[Setting, ...]:
    """The settings that recipes may give, each once, in the order of the losses."""
    found: dict[str, tuple[Any, str, list[str]]] = {}
    for name, described in LOSSES.items():
        for parameter in inspect.signature(described.function, eval_str=True).parameters.values():
            kind, _, text = split_annotation(parameter.annotation)
            if text:
                found.setdefault(parameter.name, (kind, text, []))[2].append(name)
    return tuple(
        Setting(
            name=name,
            type=kind,
            help=f"{text.format(losses=_enumerate(losses))}; the loss's own default if not given",
            losses=tuple(losses),
        )
        for name, (kind, text, losses) in found.items()
    )


def _enumerate(names: Sequence[str]) -> str:
    """Such as "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
