"""A store's views in memory: one table for all processes of a node, the next one loaded while this one is in use."""

from __future__ import annotations

import atexit
import concurrent.futures
import os
import shutil
import tempfile
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from pld.errors import StoreError
from pld.files import write_atomically, writing
from pld.store import GroupTable, LogitTable, Store, StoreGroup
from pld.store.format.quantise import GridTopK

_POLL_SECONDS = 0.05
_MOST_SECONDS = 3600.0


class ViewTables:
    """Views of a store, asked for one after the other.

    In one process a table lies in its memory. Several processes of a node share it: the first writes the integers to
    files, all map them, so that they are in memory once.
    """

    def __init__(self, store: Store | StoreGroup, folder: Path | None = None, *, writes: bool = True) -> None:
        """Read from `store`.

        Args:
            store: where views come from.
            folder: of the node, for files that its processes share; None for this process's memory.
            writes: whether this process writes them, which exactly one of a node does.
        """
        self._store = store
        self._folder = folder
        self._writes = writes
        self._written: list[Path] = []
        self._table: LogitTable | GroupTable | None = None
        self._next: tuple[int, Future[LogitTable | GroupTable]] | None = None

    def __getitem__(self, view: int) -> LogitTable | GroupTable:
        """The view's table, loaded now if it was not prepared; raises what `Store.load_view` raises."""
        if self._table is None or self._table.view != view:
            self.is_ready(view, None)
            assert self._next is not None
            self._table, self._next = self._next[1].result(), None
        return self._table

    def is_ready(self, view: int, seconds: float | None) -> bool:
        """Load a view, if it was not prepared; whether it is there, or cannot be loaded, within so many seconds."""
        if self._table is not None and self._table.view == view:
            return True
        if self._next is None or self._next[0] != view:
            self._table = None  # two views at once only where the second was asked for
            self.prepare(view)
        assert self._next is not None
        return bool(concurrent.futures.wait([self._next[1]], seconds).done)

    def prepare(self, view: int) -> None:
        """Begin to load the view that comes next, in the background, unless that was done already."""
        if self._next is None or self._next[0] != view:
            pool = ThreadPoolExecutor(1, "view")
            self._next = view, pool.submit(self._load, view)
            pool.shutdown(wait=False)

    def is_settled(self, seconds: float | None = None) -> bool:
        """Whether nothing is being loaded within so many seconds: no process should be forked while a thread loads."""
        return self._next is None or bool(concurrent.futures.wait([self._next[1]], seconds).done)

    def _load(self, view: int) -> LogitTable | GroupTable:
        if self._folder is None:
            return self._store.load_view(view)
        place = self._folder / str(view)
        if self._writes:
            if not place.exists():
                _write(_members(self._store.load_view(view)), place)
            # The one before is in use. Whoever has an older one mapped keeps it.
            for old in {*self._written[:-1]} - {place, *self._written[-1:]}:
                shutil.rmtree(old, ignore_errors=True)
            self._written = [*self._written[-1:], place]
        else:
            _wait_for(place)
        if isinstance(self._store, Store):
            return _mapped(self._store, view, place / "0")
        tables = [_mapped(store, view, place / str(number)) for number, store in enumerate(self._store.members)]
        return GroupTable(view=view, group=self._store, tables=tuple(tables))


def shared_folder(accelerator: Accelerator) -> Path | None:
    """A new folder's name, the same for all processes of a node; None where a node has one process.

    It is removed when the process that writes it ends.
    """
    if accelerator.num_processes == 1 or os.environ.get("LOCAL_WORLD_SIZE", "1") == "1":
        return None
    (token,) = broadcast_object_list([uuid.uuid4().hex])
    folder = Path(tempfile.gettempdir()) / f"pld-views-{token}"
    if accelerator.is_local_main_process:
        folder.mkdir(mode=0o700)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _members(table: LogitTable | GroupTable) -> tuple[LogitTable, ...]:
    return table.tables if isinstance(table, GroupTable) else (table,)


def _write(tables: tuple[LogitTable, ...], place: Path) -> None:
    """All arrays of a view, of each store; the folder appears when they are complete."""
    with writing(place), write_atomically(place) as temporary:
        for number, table in enumerate(tables):
            (temporary / str(number)).mkdir(parents=True)
            for name, values in table.grid._asdict().items():
                if values is not None:
                    np.save(temporary / str(number) / f"{name}.npy", values, allow_pickle=False)


def _wait_for(place: Path) -> None:
    """Until another process has written it; where that one fails, the launcher ends this one too."""
    asked = time.monotonic()
    while not place.exists():
        if time.monotonic() - asked > _MOST_SECONDS:
            raise StoreError(f"{place}: the node's first process has not written this view for an hour; start anew")
        time.sleep(_POLL_SECONDS)


def _mapped(store: Store, view: int, place: Path) -> LogitTable:
    arrays: dict[str, Any] = dict.fromkeys(GridTopK._fields)  # None where the view has no such array
    arrays |= {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in place.glob("*.npy")}
    codec = store.manifest.identity.codec
    return LogitTable(view=view, codec=codec, grid=GridTopK(**arrays), labels=store.labels, find_rows=store.rows)
