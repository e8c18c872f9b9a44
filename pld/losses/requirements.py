"""What a truncated teacher can and cannot support."""

from __future__ import annotations

from pld.errors import SignalError
from pld.signals import TopK


def why_all_classes(loss: str, temperature: float | None = None) -> str | None:
    """Why a loss needs every class of the teacher, or None where any top-k will do.

    Above T = 1 most of the teacher's mass leaves a small top-k (ImageNet teacher, k = 50 of 1000: 1.4 % is outside at
    T = 1, 52 % at T = 2), and ListMLE weighs every rank the same.

    Args:
        loss: the function's name, such as "pld_loss".
        temperature: the teacher's temperature; None for a loss that has none.
    """
    if loss == "listmle_loss":
        return "every rank weighs the same"
    if temperature is not None and temperature > 1:
        return f"at temperature {temperature:g} much of the teacher's mass is outside the top-k"
    return None


def require_classes(loss: str, teacher: TopK, num_classes: int, reason: str | None, *, approximate: bool) -> None:
    """Raise SignalError where there is a reason to need all classes, the top-k has fewer and that was not permitted."""
    if reason and teacher.k < num_classes and not approximate:
        raise SignalError(
            f"{loss}: the teacher holds k = {teacher.k} of {num_classes} classes, wanted all: {reason}; use a teacher "
            "with k = C, or approximate=True"
        )
