"""Types of the losses' settings with their checks and help texts, read from a function's signature."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, get_args, get_origin

from pld.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Check:
    """What a setting's value must be, in words and as a predicate."""

    wanted: str
    holds: Callable[[Any], bool]


def _number(wanted: str, holds: Callable[[float], bool]) -> Check:
    """A finite number that `holds` is true of; a bool is not a number here."""
    return Check(
        f"a number {wanted}",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) and holds(v),
    )


POSITIVE = _number("above 0", lambda v: v > 0)
NOT_NEGATIVE = _number("of 0 or more", lambda v: v >= 0)
UNIT_INTERVAL = _number("from 0 to 1", lambda v: 0 <= v <= 1)

Reduction = Literal["mean", "none"]
Tail = Literal["drop", "uniform"]
Backend = Literal["torch", "triton"]

# A setting that has a help text is an option of recipes; "{losses}" becomes the names of the losses that take it.
Temperature = Annotated[float, POSITIVE, "of the teacher in the loss"]
Alpha = Annotated[float, NOT_NEGATIVE, "of {losses}"]
Beta = Annotated[float, NOT_NEGATIVE, "of {losses}"]


def split_annotation(annotation: Any) -> tuple[Any, Check | None, str | None]:
    """A setting's type, its check (the last one given, or that of a bool or a Literal) and its help text."""
    kind, *notes = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    check = None
    if kind is bool:
        check = Check("true or false", lambda v: isinstance(v, bool))
    elif get_origin(kind) is Literal:
        options = get_args(kind)
        check = Check(" or ".join(f'"{option}"' for option in options), lambda v: v in options)
    for note in notes:
        check = note if isinstance(note, Check) else check
    return kind, check, next((note for note in notes if isinstance(note, str)), None)


def checks_of(function: Callable[..., Any]) -> dict[str, Check]:
    """The checks of a function's parameters, by name."""
    parameters = inspect.signature(function, eval_str=True).parameters
    checks = {name: split_annotation(parameter.annotation)[1] for name, parameter in parameters.items()}
    return {name: check for name, check in checks.items() if check}


def check_values(where: str, checks: Mapping[str, Check], values: Mapping[str, Any]) -> None:
    """Raise ConfigError for a value that does not pass its check."""
    for name, value in values.items():
        if name in checks and not checks[name].holds(value):
            raise ConfigError(f"{where}: {name} = {value!r}, wanted {checks[name].wanted}")


def check_settings(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to check its settings, by its annotations, whenever it is called."""
    checks, names = checks_of(function), tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_values(function.__name__, checks, {**dict(zip(names, args, strict=False)), **kwargs})
        return function(*args, **kwargs)

    return checked
