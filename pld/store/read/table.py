"""One view of a store in memory: the grid's integers of all rows, decoded by the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int64, Integer
from torch import Tensor

from pld.signals import TopK
from pld.store.format.identity import CodecIdentity
from pld.store.format.quantise import GridTopK, dequantise
from pld.store.format.samples import Keys

Rows = Sequence[SupportsIndex] | Integer[np.ndarray, "B"] | Integer[Tensor, "B"]
"""Row numbers: a list, a tuple or a range of integers, an array or a tensor of them."""

# What to do with what is no row number, by NumPy's letter for its kind.
_BY_KEY = "; table[table.rows(keys)] finds them by their keys"
_INSTEAD = {"b": "; np.flatnonzero(mask) gives those of a mask", "S": _BY_KEY, "U": _BY_KEY}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitTable:
    """A view's top-k of every row of the store; `table[rows]` decodes a batch.

    Rows by number, `table[[0, 1]]`, or by key, `table[table.rows(["n01440764_10026"])]`.

    Attributes:
        view: the view's index.
        codec: what the rows hold; its k is that which was asked for.
        grid: all rows' integers.
        labels: all rows' labels; None in a store without labels.
        find_rows: the store's `rows`.
    """

    view: int
    codec: CodecIdentity
    grid: GridTopK
    labels: np.ndarray | None
    find_rows: Callable[[Keys], Int64[np.ndarray, "M"]]

    def __len__(self) -> int:
        return len(self.grid.classes)

    def rows(self, keys: Keys) -> Int64[np.ndarray, "M"]:
        """The rows of keys, as `Store.rows`."""
        return self.find_rows(keys)

    def __getitem__(self, rows: Rows) -> TopK:
        """The signal of these rows, in their order.

        Raises:
            TypeError: the rows are not integers, or not one-dimensional.
            IndexError: there is no such row.
        """
        numbers = row_numbers(rows)
        if numbers.ndim != 1:
            raise TypeError(f"rows: found shape {list(numbers.shape)}, wanted [B]; for one row table[[row]]")
        if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self):
            bad = numbers[(numbers < 0) | (numbers >= len(self))][0]
            raise IndexError(f"row {bad}: rows count from 0, and this view has {len(self)} of them")
        labels = None if self.labels is None else self.labels[numbers]
        return dequantise(self.grid.take(numbers), labels, self.codec)


def row_numbers(rows: object) -> Int64[np.ndarray, "..."]:
    """Row numbers as an array, of the shape that they came in; raises TypeError for anything but whole numbers."""
    if isinstance(rows, np.ndarray) and rows.dtype == np.int64:
        return rows
    try:
        found = np.asarray(rows.detach().cpu() if isinstance(rows, Tensor) else rows)
    except (TypeError, ValueError):  # a type that NumPy has not, or lists of different lengths
        found = np.asarray(None)
    # Of an empty list NumPy makes floats.
    if found.dtype.kind not in "iu" and (found.size or isinstance(rows, np.ndarray | Tensor)):
        kind = f" of {rows.dtype}" if isinstance(rows, np.ndarray | Tensor) else ""
        raise TypeError(
            f"rows: found {type(rows).__name__}{kind}, wanted whole numbers: a list, a tuple, a range, an array or a "
            f"tensor of integers{_INSTEAD.get(found.dtype.kind, '')}"
        )
    return found.astype(np.int64)
