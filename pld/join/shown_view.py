"""ShownView: which of a store's views an epoch shows, known to all of a loader's processes, and that view's table."""

from __future__ import annotations

import torch

from pld.store import LogitTable, Store


class ShownView:
    """The view of an epoch. Its table is loaded where it is first asked for, and not sent to other processes."""

    def __init__(self, store: Store) -> None:
        """Show view 0."""
        self._store = store
        self._index = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that live on see it change
        self._table: LogitTable | None = None

    def set_epoch(self, epoch: int) -> None:
        """Epoch e shows view e mod V."""
        self._index.fill_(epoch % self._store.num_views)

    @property
    def index(self) -> int:
        """The view's number."""
        return int(self._index)

    def load(self) -> LogitTable:
        """Its table: what the teacher said of the view."""
        if self._table is None or self._table.view != self.index:
            self._table = self._store.load_view(self.index)
        return self._table

    def __getstate__(self) -> dict[str, object]:
        """Without the table: processes that are spawned load it themselves, if they need it."""
        return {**self.__dict__, "_table": None}
