"""What can be wrong with a signal's numbers: for each fault a mask of what has it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pld.errors import SignalError

# How far off log-probabilities may be, nats; float32's log-softmax over a million classes is well within.
TOLERANCE = 1e-3

Faults = dict[str, Bool[Tensor, "B ..."]]


def check_numbers(logprob_error: float, temperatures: Sequence[float]) -> None:
    """Raise SignalError unless a rounding is finite and at least 0, and temperatures finite and above 0.

    As a tolerance, an infinite rounding would accept anything; a bound would be nan or inf.
    """
    if not 0 <= logprob_error < math.inf:
        raise SignalError(f"TopK.logprob_error: found {logprob_error}, wanted a finite number, nats, 0 or more")
    if not all(0 < t < math.inf for t in temperatures):
        raise SignalError(f"TopK.temperatures: found {list(temperatures)}, wanted finite numbers above 0")


def first_fault(faults: Faults) -> str | None:
    """The first fault that any row has, and its first bad row; None without one."""
    for fault, mask in faults.items():
        if bool(mask.any()):
            return f"{fault}, first in row {int(mask.reshape(len(mask), -1).any(dim=1).nonzero()[0])}"
    return None


def class_faults(
    classes: Int[Tensor, "B k"], logprobs: Float[Tensor, "B k"], listed: Bool[Tensor, "B k"] | None, num_classes: int
) -> Faults:
    """What can be wrong with the classes and their log-probabilities.

    `listed` is False for padding; None without any, which spares several passes over B x k numbers.
    """
    numbers, not_finite, faults = classes, ~torch.isfinite(logprobs), {}
    if listed is not None:
        # Padding gets numbers that no class has.
        numbers = torch.where(listed, classes, -1 - torch.arange(classes.shape[1], device=classes.device))
        not_finite &= listed
        not_padding = (classes != classes[:, :1]) | (logprobs != -torch.inf)
        faults = {"padding that is not the first class with a log-probability of -inf": ~listed & not_padding}
    ordered = numbers.sort(dim=1).values
    return faults | {
        "classes outside 0..C-1": (classes < 0) | (classes >= num_classes),
        "a class twice in a row": ordered[:, 1:] == ordered[:, :-1],
        "log-probabilities that are not finite": not_finite,
        "log-probabilities that rise with the rank": logprobs[:, 1:] > logprobs[:, :-1],
    }


def tail_faults(
    tail_logmass: Float[Tensor, "B T"], temperatures: Sequence[float], num_classes: int, tolerance: float
) -> Faults:
    """What can be wrong with the tail's masses.

    t * tail_logmass is at most that of the uniform distribution, or of certainty below t = 1.
    """
    held = torch.tensor(temperatures, dtype=torch.float64, device=tail_logmass.device)
    most = (held - 1).clamp(min=0) * math.log(num_classes)
    return {
        "tails that are nan or +inf": ~(tail_logmass < torch.inf),
        "tails of more mass than C classes can have": tail_logmass.double() * held - most > tolerance,
    }


def label_faults(
    labels: Int[Tensor, "B"],
    label_logprob: Float[Tensor, "B"],
    logprobs: Float[Tensor, "B k"],
    is_label: Bool[Tensor, "B k"],
    last_logprobs: Float[Tensor, "B 1"],
    num_classes: int,
    tolerance: float,
) -> Faults:
    """What can be wrong with the labels.

    Args:
        labels: the labels.
        label_logprob: their log-probabilities.
        logprobs: those of the classes.
        is_label: which of the classes is the label.
        last_logprobs: the log-probability of the least probable class of each row.
        num_classes: C.
        tolerance: by how much log-probabilities may be off, nats.
    """
    off = (logprobs - label_logprob[:, None]).abs() > tolerance
    above = label_logprob > last_logprobs[:, 0] + tolerance
    return {
        "labels outside 0..C-1": (labels < 0) | (labels >= num_classes),
        "labels whose log-probability is not finite": ~torch.isfinite(label_logprob),
        "a label whose log-probability is not that of its entry": is_label & off,
        "a label outside the top k that is more probable than its last class": ~is_label.any(dim=1) & above,
    }


def sum_faults(logprobs: Float[Tensor, "B k"], others: Sequence[Float[Tensor, "B"]], tolerance: float) -> Faults:
    """Whether the probabilities of classes and of all others do not sum to 1, but for a factor of e^tolerance."""
    mass = torch.stack([logprobs.double().exp().sum(dim=1), *(other.double().exp() for other in others)]).sum(dim=0)
    return {"probabilities that do not sum to 1": ~(mass.log().abs() <= tolerance)}
