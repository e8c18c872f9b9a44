"""Cut a part into the pieces that are loaded at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Int64

from pld.loading import ViewRequest
from pld.views import MixingPlan


@dataclasses.dataclass(frozen=True, eq=False)
class PartPiece(ViewRequest):
    """Rows of a part that are loaded at once, and whether they are the last of a forward pass and of the part."""

    ends_batch: bool
    ends_part: bool


Partners = Callable[[int], Int64[np.ndarray, "N"]]
"""The partners of all rows in a view: `MixingPlan.partners`, or what remembers its last results."""


def split_part(
    rows: Int64[np.ndarray, "n"],
    view_indexes: Sequence[int],
    *,
    batch_size: int,
    piece_size: int,
    plan: MixingPlan | None = None,
    partners: Partners | None = None,
) -> Iterator[PartPiece]:
    """Cut a part into batches of at most `batch_size` views and these into pieces of `piece_size`, of a row at least.

    Worker processes have shared memory for each piece that they load ahead, so that it does not grow with the batch.
    Mixed views come one view after another, as each pairs other images, with partners side by side: then an image
    whose partner is in the same shard is decoded about once a view.

    Args:
        rows: of the part's image shard.
        view_indexes: of its views.
        batch_size: views of a forward pass.
        piece_size: views that are loaded at once.
        plan: of what is mixed with what, if images are.
        partners: the plan's, where they are remembered.
    """
    passes = [(rows, view_indexes)]
    if plan is not None:
        passes = [(rows, [view]) for view in view_indexes]
    for number, (rows, views) in enumerate(passes):
        mixing = None
        if plan is not None:
            found = (partners or plan.partners)(views[0])
            rows = put_side_by_side(rows, found)
            mixing = plan.mixing(views[0], rows, found)[:, None]
        for part, ends_batch, ends_pass in _cut(len(rows), batch_size // len(views), piece_size // len(views)):
            ends_part = ends_pass and number == len(passes) - 1
            some = None if mixing is None else mixing[part]
            yield PartPiece(rows[part], views, ends_batch, ends_part, mixing=some)


def put_side_by_side(rows: Int64[np.ndarray, "n"], partners: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "n"]:
    """Rows in another order: pairs first, then three that go round, and those without a partner here."""
    other = partners[rows]
    first = np.minimum(np.minimum(rows, other), partners[other])
    is_pair = (partners[other] == rows) & (other != rows)
    return rows[np.lexsort((rows, first, ~is_pair))]


def _cut(num_rows: int, batch_rows: int, piece_rows: int) -> Iterator[tuple[slice, bool, bool]]:
    """The rows of each piece, and whether it ends a batch and all rows."""
    batch_rows, piece_rows = max(1, batch_rows), max(1, piece_rows)
    for first in range(0, num_rows, batch_rows):
        end = min(first + batch_rows, num_rows)
        for start in range(first, end, piece_rows):
            ends_batch = start + piece_rows >= end
            yield slice(start, min(start + piece_rows, end)), ends_batch, ends_batch and end == num_rows
