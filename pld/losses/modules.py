"""The losses as modules, for people with their own training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from pld.losses.checks import Backend, Reduction, Tail, check_settings
from pld.losses.dist import dist_loss
from pld.losses.distances import cross_entropy_loss, dkd_loss, kd_loss
from pld.losses.ranking import listmle_loss, pld_loss, plistmle_loss
from pld.signals import TopK


class _Loss(nn.Module):
    """A loss function with its settings, which are checked once."""

    def __init__(self, function: Callable[..., Tensor], **settings: Any) -> None:
        super().__init__()
        check_settings(function.__name__, **settings)
        self.function = function
        self.settings = settings

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


class _TeacherLoss(_Loss):
    """A loss that needs a teacher."""

    def forward(
        self,
        student_logits: Float[Tensor, "B C"],
        teacher: TopK | Float[Tensor, "B C"],
        labels: Int[Tensor, "B"],
        weight: Float[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "*reduced"]:
        """The loss of a batch; the arguments are the function's."""
        return self.function(student_logits, teacher, labels, weight=weight, **self.settings)


class CrossEntropyLoss(_Loss):
    """`cross_entropy_loss` as a module."""

    def __init__(self, *, label_smoothing: float = 0.0, reduction: Reduction = "mean") -> None:
        super().__init__(cross_entropy_loss, label_smoothing=label_smoothing, reduction=reduction)

    def forward(
        self,
        student_logits: Float[Tensor, "B C"],
        labels: Int[Tensor, "B"],
        weight: Float[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "*reduced"]:
        """The loss of a batch; the arguments are the function's."""
        return self.function(student_logits, labels, weight=weight, **self.settings)


class PLDLoss(_TeacherLoss):
    """`pld_loss` as a module."""

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        tail: Tail = "drop",
        approximate: bool = False,
        backend: Backend = "torch",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(
            pld_loss,
            temperature=temperature,
            tail=tail,
            approximate=approximate,
            backend=backend,
            reduction=reduction,
        )


class ListMLELoss(_TeacherLoss):
    """`listmle_loss` as a module."""

    def __init__(self, *, approximate: bool = False, reduction: Reduction = "mean") -> None:
        super().__init__(listmle_loss, approximate=approximate, reduction=reduction)


class PListMLELoss(_TeacherLoss):
    """`plistmle_loss` as a module."""

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(plistmle_loss, reduction=reduction)


class KDLoss(_TeacherLoss):
    """`kd_loss` as a module."""

    def __init__(
        self,
        *,
        alpha: float = 0.1,
        temperature: float = 2.0,
        approximate: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(kd_loss, alpha=alpha, temperature=temperature, approximate=approximate, reduction=reduction)


class DISTLoss(_TeacherLoss):
    """`dist_loss` as a module."""

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        beta: float = 2.0,
        gamma: float = 2.0,
        temperature: float = 1.0,
        global_batch: bool = False,
        approximate: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(
            dist_loss,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            temperature=temperature,
            global_batch=global_batch,
            approximate=approximate,
            reduction=reduction,
        )


class DKDLoss(_TeacherLoss):
    """`dkd_loss` as a module."""

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        approximate: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(
            dkd_loss, alpha=alpha, beta=beta, temperature=temperature, approximate=approximate, reduction=reduction
        )
