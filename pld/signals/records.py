"""Records: frozen dataclasses of tensors with a row for each sample; change all their tensors, check their shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor

from pld.errors import SignalError

Record = TypeVar("Record")
# Their numbers are floating point; all others are int64.
_FLOATS = frozenset({"logprobs", "label_logprob", "tail_logmass", "threshold"})


def with_tensors(records: Sequence[Record], make: Callable[..., Tensor]) -> Record:
    """The first of records that hold the same fields, each tensor made of that field's in all of them.

    A field that is a record itself is made in the same way; all else is the first's.
    """
    first: Any = records[0]
    made: dict[str, Any] = {}
    for field in dataclasses.fields(first):
        values = [getattr(record, field.name) for record in records]
        if isinstance(values[0], Tensor):
            made[field.name] = make(*values)
        elif dataclasses.is_dataclass(values[0]):
            made[field.name] = with_tensors(values, make)
    changed: Record = dataclasses.replace(first, **made)
    return changed


def check_fields(record: object, shapes: Mapping[str, list[int]]) -> None:
    """Raise SignalError unless a record's tensors, None aside, have their fields' shapes and the right kind."""
    for name, shape in shapes.items():
        found = getattr(record, name)
        if found is None:
            continue
        if list(found.shape) != shape or found.is_floating_point() != (name in _FLOATS):
            kind = "floating point" if name in _FLOATS else "int64"
            raise SignalError(
                f"{type(record).__name__}.{name}: found {found.dtype} of shape {list(found.shape)}, wanted {kind} of "
                f"{shape}"
            )
