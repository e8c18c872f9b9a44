"""The losses as modules, for people with their own training loop."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, overload

from jaxtyping import Float, Int
from torch import Tensor, nn

from pld.losses.settings import check_values, checks_of
from pld.signals import MixedLabels, TopK

P = ParamSpec("P")


class LossModule(nn.Module):
    """A loss function with its settings, which are checked once."""

    function: Callable[..., Tensor]
    settings: dict[str, Any]

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


class TeacherLossModule(LossModule):
    """A loss that needs a teacher."""

    def forward(
        self,
        student_logits: Float[Tensor, "B C"],
        teacher: TopK | Float[Tensor, "B C"],
        labels: Int[Tensor, "B"] | MixedLabels | None,
        weight: Float[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "*reduced"]:
        """The loss of a batch; the arguments are the function's."""
        return self.function(student_logits, teacher, labels, weight, **self.settings)


@overload
def settings_of(
    function: Callable[Concatenate[Tensor, TopK | Tensor, Tensor, Tensor | None, P], Tensor],
) -> Callable[[Callable[[Any], None]], Callable[Concatenate[Any, P], None]]: ...
@overload
def settings_of(
    function: Callable[Concatenate[Tensor, Tensor, Tensor | None, P], Tensor],
) -> Callable[[Callable[[Any], None]], Callable[Concatenate[Any, P], None]]: ...
def settings_of(function: Callable[..., Tensor]) -> Callable[[Callable[[Any], None]], Callable[..., None]]:
    """Give a module's constructor the keyword-only parameters of its loss function, with their defaults and checks."""
    settings = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    signature, checks = inspect.Signature(settings), checks_of(function)

    def decorate(init: Callable[[Any], None]) -> Callable[..., None]:
        @functools.wraps(init)
        def construct(self: Any, **given: Any) -> None:
            nn.Module.__init__(self)
            bound = signature.bind(**given)
            bound.apply_defaults()
            check_values(function.__name__, checks, bound.arguments)
            self.function, self.settings = function, dict(bound.arguments)

        own = inspect.signature(init).parameters.values()
        construct.__signature__ = inspect.Signature([*own, *settings])  # type: ignore[attr-defined]
        return construct

    return decorate
