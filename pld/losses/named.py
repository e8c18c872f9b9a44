"""NamedLoss: a registered loss with its settings, called the same way whatever its name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pld.errors import ConfigError
from pld.losses.registry import LOSSES, Loss, temperatures_of, why_all_classes
from pld.losses.settings import Reduction, check_values, checks_of
from pld.losses.standardize import standardize_logits
from pld.losses.teacher import dense_logprobs
from pld.plugins import failed_plugins
from pld.signals import MixedLabels, TopK

_STANDARDIZE = ("none", "both", "teacher")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequiredSignal:
    """What a method asks of a store or a live teacher.

    Attributes:
        needs_teacher: False for methods that learn from labels alone; they need no classes and no temperatures.
        all_classes: why k must be C, or None where any k will do; `approximate` permits a smaller k all the same.
        temperatures: those at which the tail's mass must be held where k < C.
        label: why every image must have a label, or None where none needs one.
        sampled_tail: whether classes drawn from the tail do in place of `all_classes`.
        same_k: why every sample must have the same k, or None where each may have as many as an error asks for.
    """

    needs_teacher: bool
    all_classes: str | None = None
    temperatures: tuple[float, ...] = ()
    label: str | None = None
    sampled_tail: bool = False
    same_k: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedLoss:
    """A loss with its settings, called the same way whatever its name.

    Attributes:
        name: the recipe's name for it.
        settings: every setting of the loss function, defaults included.
        standardize: whose logits are standardised first: "none", "both" sides' or the "teacher"'s alone.
    """

    name: str
    settings: Mapping[str, Any]
    standardize: str

    def __call__(
        self,
        student_logits: Float[Tensor, "B C"],
        teacher: TopK | Float[Tensor, "B C"] | None,
        labels: Int[Tensor, "B"] | MixedLabels | None,
        *,
        weight: Float[Tensor, "B"] | None = None,
        reduction: Reduction = "mean",
    ) -> Float[Tensor, "*reduced"]:
        """The loss; `teacher` is ignored, and may be None, where the method needs none; `labels` may be None likewise.

        Raises:
            ConfigError: the method needs a teacher and got None.
            SignalError: as the loss function and, where they are asked for, as `standardize_logits` and
                `dense_logprobs`.
        """
        student_logits, teacher = self._standardized(student_logits, teacher)
        return self._call(student_logits, teacher, labels, weight, reduction)

    def in_parts(
        self,
        student_logits: Float[Tensor, "B C"],
        teacher: TopK | Float[Tensor, "B C"] | None,
        labels: Int[Tensor, "B"] | MixedLabels | None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | None]:
        """The mean loss as a call gives it, and what the labels contribute to it: their weight times cross entropy.

        The rest is the teacher's. The labels' part has no gradient; it is None without labels or without a teacher,
        where the loss is one part, and for losses that are registered without it.

        Raises:
            ConfigError, SignalError: as a call.
        """
        student_logits, teacher = self._standardized(student_logits, teacher)
        total = self._call(student_logits, teacher, labels, None, "mean")
        label_part = LOSSES[self.name].label_part
        if labels is None or label_part is None:
            return total, None
        with torch.no_grad():
            return total, label_part(student_logits, teacher, labels, **self.settings).mean()

    def _standardized(
        self, student_logits: Float[Tensor, "B C"], teacher: TopK | Tensor | None
    ) -> tuple[Float[Tensor, "B C"], TopK | Tensor | None]:
        """Student and teacher as the loss function takes them."""
        if self.standardize == "both":
            student_logits = standardize_logits(student_logits)
        if not LOSSES[self.name].needs_teacher:
            return student_logits, None
        if teacher is None:
            raise ConfigError(f"{self.name}: found no teacher, wanted a TopK or dense logits")
        if self.standardize != "none":
            if isinstance(teacher, TopK):
                approximate = self.settings.get("approximate", False)
                teacher = dense_logprobs(teacher, student_logits.shape[1], approximate=approximate)
            teacher = standardize_logits(teacher)
        return student_logits, teacher

    def _call(
        self,
        student_logits: Tensor,
        teacher: TopK | Tensor | None,
        labels: Tensor | MixedLabels | None,
        weight: Tensor | None,
        reduction: Reduction,
    ) -> Tensor:
        method = LOSSES[self.name]
        first = (student_logits, teacher) if method.needs_teacher else (student_logits,)
        return method.function(*first, labels, weight, **self.settings, reduction=reduction)

    @property
    def required_signal(self) -> RequiredSignal:
        """What this loss asks of a store or a live teacher."""
        method, temperatures = LOSSES[self.name], temperatures_of(self.settings)
        label = method.why_label(self.settings)
        if not method.needs_teacher:
            return RequiredSignal(needs_teacher=False, label=label)
        reason = why_all_classes(method.all_classes, self.settings.get("temperature"))
        if self.standardize != "none":
            # From a truncated teacher the dense vector is made at T = 1, and tempered after.
            reason, temperatures = "logits are standardised over all classes", (1.0,)
        return RequiredSignal(
            needs_teacher=True,
            all_classes=reason,
            temperatures=temperatures,
            label=label,
            sampled_tail=method.sampled_tail and self.standardize == "none",
            same_k=method.same_k,
        )


def build_loss(name: str, *, standardize: str = "none", approximate: bool = False, **settings: Any) -> NamedLoss:
    """A loss by its recipe name.

    Args:
        name: one of `loss_names()`.
        standardize: "none", "both" or "teacher": whose logits to standardise first.
        approximate: permit what a truncated TopK cannot support; no effect on losses that any TopK supports.
        settings: keyword arguments of the loss function, but for the reduction, which is given per call.

    Raises:
        ConfigError: an unknown name or setting (the nearest ones are offered), or a value that a setting cannot have.
    """
    method = _find(name)
    if unknown := [setting for setting in settings if setting not in method.defaults]:
        raise ConfigError(f"loss {name!r} has no setting {_without(unknown, method.defaults)}")
    if standardize not in _STANDARDIZE:
        raise ConfigError(f"loss {name!r}: standardize = {standardize!r}, wanted one of {', '.join(_STANDARDIZE)}")
    if standardize == "teacher" and not method.needs_teacher:
        raise ConfigError(
            f"loss {name!r}: standardize = 'teacher', and it has no teacher: leave out, or take back from a recipe by "
            "--standardize none"
        )
    settings = {**method.defaults, **settings}
    if "approximate" in settings:
        settings["approximate"] = approximate
    check_values(method.function.__name__, checks_of(method.function), settings)
    return NamedLoss(name=name, settings=settings, standardize=standardize)


def needs_teacher(name: str) -> bool:
    """Whether a loss, by its recipe name, takes a teacher; without one it learns from the labels alone.

    Raises:
        ConfigError: an unknown name; the nearest ones are offered.
    """
    return _find(name).needs_teacher


def _find(name: str) -> Loss:
    if name not in LOSSES:
        raise ConfigError(f"loss {name!r}: {_nearest(name, LOSSES)}{failed_plugins()}")
    return LOSSES[name]


def _without(unknown: Sequence[str], known: Mapping[str, Any]) -> str:
    """Which settings a loss lacks, and what to do: correct the first that no loss has, or leave out other losses'."""
    of_any = {setting for method in LOSSES.values() for setting in method.defaults}
    for word in unknown:
        if word not in of_any:
            return f"{word!r}: {_nearest(word, known) if known else 'it has none'}"
    own = ", ".join(name for name in known if name != "approximate") or "none"
    take_back = " ".join(f"--{name} null" for name in unknown)
    return f"{', '.join(map(repr, unknown))}: leave out, or take back from a recipe by {take_back}; its settings: {own}"


def _nearest(word: str, known: Iterable[str]) -> str:
    """The known words nearest to an unknown one, or all of them."""
    near = difflib.get_close_matches(word, known, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
