"""Apply operations to a view's pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxtyping import UInt8
from numpy import ndarray


@dataclasses.dataclass(frozen=True)
class Op:
    """One operation with its drawn arguments, plain data that does not depend on the output's size.

    Attributes:
        name: of the operation.
        arguments: numbers, in the operation's own units.
    """

    name: str
    arguments: tuple[float, ...] = ()


def apply_ops(pixels: UInt8[ndarray, "h w 3"], ops: Sequence[Op]) -> UInt8[ndarray, "h w 3"]:
    """The pixels after all operations, in their order."""
    raise NotImplementedError
