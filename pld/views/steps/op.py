"""One operation on a view's pixels, as plain data."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Op:
    """One operation with its drawn arguments, plain data that does not depend on the output's size.

    Attributes:
        name: of the operation, a key of `pld.views.steps.ops.OPERATIONS`.
        arguments: numbers, in the operation's own units.
    """

    name: str
    arguments: tuple[float, ...] = ()
