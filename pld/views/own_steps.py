"""register_policy_step: steps of a view policy that other packages define."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from pld.errors import ConfigError, PluginError, explain
from pld.plugins import failed_plugins
from pld.views.crops import RandomResizedCrop
from pld.views.policy import STEPS, policy_from_json, policy_to_json
from pld.views.policy_text import WORDS
from pld.views.steps import Op
from pld.views.steps.ops import OPERATIONS, Pixels

Kind = TypeVar("Kind", bound=type)
# What JSON keeps as it is; a step's parameters are part of a store's identity.
_PLAIN = (bool, int, float, str)
_DRAWS = 8  # are tried when a step is registered


def register_policy_step(*, operations: Mapping[str, Callable[..., Pixels]] | None = None) -> Callable[[Kind], Kind]:
    """Register a step of a view policy: a frozen dataclass with a `name` and `draw(identity)`.

    Its name and its parameters become part of a store's identity. `--policy` takes the name as a word, with numbers for
    its number parameters in their order, such as `tilt-5`. Its code is not part of the identity: where a change to it
    changes pixels, the store's pixel probes show it.

    Args:
        operations: what `draw`'s operations do to pixels, by their names, where these are new: functions of (uint8
            [h, w, 3], numbers) that return such an array and leave theirs as it is. They depend on nothing else.

    Raises:
        PluginError: a name is taken, or the class is not frozen, has parameters that JSON does not keep or that have
            no default, or does not draw the same operations twice; when it decorates the class.
    """

    def register(kind: Kind) -> Kind:
        where = f"policy step {kind.__module__}.{kind.__qualname__}"
        _check_class(kind, where)
        name = kind.name  # type: ignore[attr-defined]
        if name in WORDS:
            raise PluginError(f"{where}: its name {name!r} is a word that --policy has already; choose another")
        for operation, function in (operations or {}).items():
            OPERATIONS.register(operation, function, function)
        STEPS.register(name, kind, kind)
        try:
            _check_draw(kind(), where)
        except PluginError:
            del STEPS[name]
            raise
        return kind

    return register


def _check_class(kind: type[Any], where: str) -> None:
    """Raise PluginError unless steps of this class can be frozen, sent to loader processes and written to JSON."""
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise PluginError(
            f"{where}: is not a frozen dataclass; wanted @dataclasses.dataclass(frozen=True, kw_only=True)"
        )
    if not isinstance(getattr(kind, "name", None), str) or "name" in {field.name for field in dataclasses.fields(kind)}:
        raise PluginError(f'{where}: has no class attribute `name`; wanted, for example, name: ClassVar[str] = "tilt"')
    if not callable(getattr(kind, "draw", None)):
        raise PluginError(f"{where}: cannot be drawn; wanted draw(self, identity: str) -> tuple[Op, ...]")
    if "<locals>" in kind.__qualname__:
        raise PluginError(f"{where}: is defined in a function, where loader processes cannot find it; move it out")
    for field in dataclasses.fields(kind):
        if type(field.default) not in _PLAIN or (isinstance(field.default, float) and not math.isfinite(field.default)):
            raise PluginError(
                f"{where}: its parameter {field.name} has the default {field.default!r}; wanted a finite number, true, "
                "false or text, which a store keeps as JSON"
            )


def _check_draw(step: Any, where: str) -> None:
    """Raise PluginError unless it draws sound operations, the same ones each time, and survives JSON."""
    for identity in map(str, range(_DRAWS)):
        try:
            drawn, again = step.draw(identity), step.draw(identity)
        except Exception as error:  # other people's code fails in its own ways
            raise PluginError(f"{where}: draw fails: {explain(error)}") from error
        if not isinstance(drawn, tuple) or not all(isinstance(op, Op) for op in drawn):
            raise PluginError(f"{where}: draw returns {drawn!r}, wanted a tuple of pld.views.Op")
        if drawn != again:
            raise PluginError(
                f"{where}: draw gives {drawn} and then {again} for one identity; draw from "
                "pld.randomness.raw_bits(identity, ...), so that teacher and student see the same view"
            )
        _check_ops(drawn, where)
    policy = RandomResizedCrop(steps=(step,))
    try:
        same = policy_from_json(json.loads(json.dumps(policy_to_json(policy)))) == policy
    except ConfigError as error:
        raise PluginError(f"{where}: cannot be read back from JSON: {error}") from error
    if not same:
        raise PluginError(
            f"{where}: does not survive a round trip through JSON; give its parameters types that JSON keeps"
        )


def _check_ops(ops: tuple[Op, ...], where: str) -> None:
    """Raise PluginError unless the operations are known, plain data, and do to pixels what an operation may."""
    for op in ops:
        if op.name not in OPERATIONS:
            raise PluginError(
                f"{where}: draws the operation {op.name!r}, which is not known; pass register_policy_step its "
                f"operations={{...}}, or draw some of {', '.join(OPERATIONS)}{failed_plugins()}"
            )
        if not all(type(number) in (int, float) and math.isfinite(number) for number in op.arguments):
            raise PluginError(f"{where}: draws {op}; wanted finite Python numbers as its arguments")
    for height, width in ((16, 24), (23, 17)):
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        before = pixels.copy()
        try:
            found, again = (_apply(pixels, ops) for _ in range(2))
        except Exception as error:  # likewise
            raise PluginError(f"{where}: {ops} fail on {height} x {width} pixels: {explain(error)}") from error
        if not isinstance(found, np.ndarray) or (found.dtype, found.shape) != (pixels.dtype, pixels.shape):
            shape = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
            raise PluginError(f"{where}: {ops} make {shape} of pixels, wanted uint8 {list(pixels.shape)}")
        if not np.array_equal(pixels, before):
            raise PluginError(f"{where}: {ops} change the array that they are given; wanted a new one")
        if not np.array_equal(found, again):
            raise PluginError(f"{where}: {ops} give other pixels each time; random numbers are draw's alone")


def _apply(pixels: Any, ops: tuple[Op, ...]) -> Any:
    """`apply_ops`, of operations that may return anything."""
    for op in ops:
        pixels = OPERATIONS[op.name](pixels, *op.arguments)
    return pixels
