"""One view of a store in memory: the grid's integers of all rows, decoded by the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Int64

from pld.signals import TopK
from pld.store.grid import GridTopK, restore
from pld.store.identity import CodecIdentity
from pld.store.samples import Keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitTable:
    """A view's top-k of every row of the store; `table[rows]` decodes a batch.

    Attributes:
        view: the view's index.
        codec: what the rows hold; its k is that which was asked for.
        grid: all rows' integers.
        labels: all rows' labels.
        find_rows: the store's `rows`.
    """

    view: int
    codec: CodecIdentity
    grid: GridTopK
    labels: np.ndarray
    find_rows: Callable[[Keys], Int64[np.ndarray, "M"]]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, keys: Keys) -> Int64[np.ndarray, "M"]:
        """The rows of keys, as `Store.rows`."""
        return self.find_rows(keys)

    def __getitem__(self, rows: Int64[np.ndarray, "B"]) -> TopK:
        if rows.size and int(rows.min()) < 0:
            raise IndexError(f"row {rows.min()}: rows count from 0")
        return restore(self.grid[rows], self.labels[rows], self.codec)
