"""The losses as modules, for people with their own training loop."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from pld.errors import ConfigError
from pld.losses.positions import ClassDim, at_positions, check_layout
from pld.losses.settings import check_values, checks_of
from pld.signals import MixedLabels, TopK


class LossModule(nn.Module):
    """A loss function with its settings, which are checked once, and the layout of the logits.

    Attributes:
        function: the loss.
        settings: its settings.
        class_dim: which dimension of the logits is that of the classes: 1 for [B, C, H, W], -1 for [B, T, V]; None for
            [B, C]. Labels, weight and the result of reduction="none" have the logits' shape without it.
        ignore_index: the label of positions that count for nothing, whatever their logits; None where there are none.
        rows_are_apart: whether a row's loss depends on that row alone; where it does not, no position can be ignored.
    """

    function: Callable[..., Tensor]
    settings: dict[str, Any]
    class_dim: ClassDim | None
    ignore_index: int | None
    rows_are_apart: ClassVar[bool] = True

    def extra_repr(self) -> str:
        """The settings, as `print` shows them, and the layout where it is given."""
        layout = {"class_dim": self.class_dim, "ignore_index": self.ignore_index}
        shown = {**self.settings, **{name: value for name, value in layout.items() if value is not None}}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    def value(
        self,
        sides: Sequence[Float[Tensor, "..."] | TopK],
        labels: Int[Tensor, "..."] | MixedLabels | None,
        weight: Float[Tensor, "..."] | None,
    ) -> Float[Tensor, "*reduced"]:
        """The loss in the module's layout; `sides` are the student's logits and, where it has one, the teacher."""
        if self.class_dim is None and self.ignore_index is None:
            return self.function(*sides, labels, weight, **self.settings)
        layout: dict[str, Any] = {"class_dim": self.class_dim, "ignore_index": self.ignore_index}
        return at_positions(self.function, self.settings, sides, labels, weight, **layout)


class TeacherLossModule(LossModule):
    """A loss that needs a teacher."""

    def forward(
        self,
        student_logits: Float[Tensor, "..."],
        teacher: TopK | Float[Tensor, "..."],
        labels: Int[Tensor, "..."] | MixedLabels | None,
        weight: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "*reduced"]:
        """The loss of a batch; the arguments are the function's, or with a layout those of `at_positions`."""
        return self.value((student_logits, teacher), labels, weight)


def settings_of(function: Callable[..., Tensor]) -> Callable[[Callable[[Any], None]], Callable[..., None]]:
    """Give a module's constructor the keyword-only parameters of its loss function, with their defaults and checks.

    After them come those of the logits' layout, `class_dim` and `ignore_index`.
    """
    settings = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    layout = [p for p in inspect.signature(check_layout).parameters.values() if p.name != "where"]
    layout = [p.replace(kind=p.KEYWORD_ONLY, default=None) for p in layout]
    signature, checks = inspect.Signature([*settings, *layout]), checks_of(function)

    def decorate(init: Callable[[Any], None]) -> Callable[..., None]:
        @functools.wraps(init)
        def construct(self: Any, **given: Any) -> None:
            nn.Module.__init__(self)
            bound = signature.bind(**given)
            bound.apply_defaults()
            check_values(function.__name__, checks, bound.arguments)
            values = dict(bound.arguments)
            self.class_dim, self.ignore_index = (values.pop(p.name) for p in layout)
            self.function, self.settings = function, values
            check_layout(function.__name__, self.class_dim, self.ignore_index)
            if self.ignore_index is not None and not self.rows_are_apart:
                raise ConfigError(
                    f"{function.__name__}: ignore_index = {self.ignore_index}, wanted None: its value depends on the "
                    "whole batch; leave positions out before: keep = labels != ignore_index, then "
                    "student_logits.movedim(class_dim, -1)[keep], the teacher's likewise (a TopK's: "
                    "pld.signals.with_tensors([teacher], lambda tensor: tensor[keep.flatten()])), and labels[keep]"
                )

        own = inspect.signature(init).parameters.values()
        construct.__signature__ = inspect.Signature([*own, *settings, *layout])  # type: ignore[attr-defined]
        return construct

    return decorate
