"""The steps that a policy may have after its crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, get_args, runtime_checkable

from pld.errors import ConfigError
from pld.views.mixing import CutMix, MixStep, Mixup, Partners
from pld.views.steps.op import Op


@runtime_checkable
class PixelStep(Protocol):
    """A step that changes an image's own pixels: its parameters, and how it is drawn."""

    name: ClassVar[str]

    def draw(self, identity: str) -> tuple[Op, ...]:
        """What one view gets, as a pure function of `identity`, from which its random bits follow."""


Step = PixelStep | MixStep


def check_steps(steps: Sequence[Step], partners: str) -> None:
    """Raise ConfigError if a step comes twice, something follows the mixing, or `partners` is unknown."""
    names = [step.name for step in steps]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"view policy: {name} comes twice; a step is given once")
    is_mixing = [isinstance(step, Mixup | CutMix) for step in steps]
    if is_mixing != sorted(is_mixing):
        raise ConfigError(f"view policy: steps {', '.join(names)}; mixup and cutmix come last")
    if partners not in get_args(Partners):
        raise ConfigError(f"view policy: partners {partners!r}; wanted {' or '.join(get_args(Partners))}")
