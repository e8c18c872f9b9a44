"""What a function must be to be registered as a loss."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from pld.errors import PluginError
from pld.losses.settings import split_annotation

_TENSORS = ("student_logits", "teacher", "labels", "weight")
# What `build_loss` and the trainer's options call their own.
_TAKEN = {"name", "standardize", "approximate_teacher"}


def check_loss(function: Callable[..., Any], known: Iterable[Callable[..., Any]]) -> None:
    """Check a loss function's signature.

    Args:
        function: the loss.
        known: the losses that are registered already; a setting of one name has one type.

    Raises:
        PluginError: its parameters are not those that a loss is called with; says which.
    """
    where = f"loss {function.__module__}.{function.__qualname__}"
    parameters = inspect.signature(function).parameters
    tensors = tuple(name for name, parameter in parameters.items() if parameter.kind is not parameter.KEYWORD_ONLY)
    if tensors not in (_TENSORS, (_TENSORS[0], *_TENSORS[2:])):
        raise PluginError(
            f"{where}: takes ({', '.join(tensors)}), wanted ({', '.join(_TENSORS)}), without teacher if it needs none, "
            "and settings behind a *"
        )
    if parameters["weight"].default is not None:
        raise PluginError(f"{where}: weight has no default; wanted weight: ... | None = None")
    if "reduction" not in parameters:
        raise PluginError(f'{where}: has no setting reduction; wanted reduction: Reduction = "mean"')
    types = _types(known)
    for name, (kind, parameter) in _settings(function).items():
        if parameter.default is parameter.empty:
            raise PluginError(f"{where}: the setting {name} has no default; give it one")
        if name in _TAKEN:
            raise PluginError(f"{where}: a setting cannot be called {name}, as that is an option of every loss; rename")
        if name in types and types[name] != kind:
            raise PluginError(
                f"{where}: the setting {name} is of type {kind}, and other losses' of that name of type {types[name]}; "
                "take that type, or another name"
            )


@functools.cache
def _settings(function: Callable[..., Any]) -> dict[str, tuple[Any, inspect.Parameter]]:
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return {
        parameter.name: (split_annotation(parameter.annotation)[0], parameter)
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def _types(functions: Iterable[Callable[..., Any]]) -> dict[str, Any]:
    return {name: kind for function in functions for name, (kind, _) in _settings(function).items()}
