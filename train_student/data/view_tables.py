"""A store's views in memory: an epoch's tables for all processes of a node, and the next epoch's loaded meanwhile."""

from __future__ import annotations

import atexit
import concurrent.futures
import logging
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

_LOG = logging.getLogger(__name__)

Table = LogitTable | GroupTable

_POLL_SECONDS = 0.05
_MOST_SECONDS = 3600.0


class ViewTables:
    """An epoch's views of a store, asked for epoch after epoch.

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
        self._written: set[int] = set()
        self._tables: dict[int, Table] = {}
        self._next: tuple[tuple[int, ...], Future[dict[int, Table]]] | None = None

    def __getitem__(self, views: tuple[int, ...]) -> tuple[Table, ...]:
        """The views' tables, loaded now if they were not prepared; raises what `Store.load_view` raises."""
        if set(views) != set(self._tables):
            self.is_ready(views, None)
            assert self._next is not None
            self._tables, self._next = self._next[1].result(), None
        return tuple(self._tables[view] for view in views)

    def is_ready(self, views: tuple[int, ...], seconds: float | None) -> bool:
        """Load views that were not prepared; whether they are there by then. Raises what loading raised."""
        if set(views) == set(self._tables):
            return True
        if self._next is None or self._next[0] != views:
            self._tables = self._held(views)  # more at once only where they were asked for
            self.prepare(views)
        assert self._next is not None
        return _is_done(self._next[1], seconds)

    def prepare(self, views: tuple[int, ...]) -> None:
        """Begin to load the views that come next, in the background, unless that was done already."""
        if self._next is None or self._next[0] != views:
            pool = ThreadPoolExecutor(1, "view")
            self._next = views, pool.submit(self._load, views, self._held(views), {*self._tables, *views})
            pool.shutdown(wait=False)

    def is_settled(self, seconds: float | None = None) -> bool:
        """Whether nothing is being loaded within so many seconds: no process should be forked while a thread loads.

        Raises what loading raised.
        """
        return self._next is None or _is_done(self._next[1], seconds)

    def _held(self, views: tuple[int, ...]) -> dict[int, Table]:
        """Those of some views that are here."""
        return {view: self._tables[view] for view in views if view in self._tables}

    def _load(self, views: tuple[int, ...], held: dict[int, Table], in_use: set[int]) -> dict[int, Table]:
        """The tables of the views, those that are here already as they are."""
        loaded = {view: held[view] if view in held else self._load_timed(view) for view in views}
        if self._folder is not None and self._writes:
            # Whoever has an older one mapped keeps it.
            for old in self._written - in_use:
                shutil.rmtree(self._folder / str(old), ignore_errors=True)
            self._written &= in_use
        return loaded

    def _load_timed(self, view: int) -> Table:
        start = time.monotonic()
        table = self._load_view(view)
        num_bytes = sum(
            values.nbytes
            for member in _members(table)
            for values in member.grid._asdict().values()
            if values is not None
        )
        _LOG.debug("view %d: loaded %d bytes in %.1f s", view, num_bytes, time.monotonic() - start)
        return table

    def _load_view(self, view: int) -> Table:
        if self._folder is None:
            return self._store.load_view(view)
        place = self._folder / str(view)
        if not self._writes:
            _wait_for(place)
        elif not place.exists():
            _write(_members(self._store.load_view(view)), place)
            self._written.add(view)
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


def _members(table: Table) -> tuple[LogitTable, ...]:
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


def _is_done(loading: Future[dict[int, Table]], seconds: float | None) -> bool:
    """Whether it has ended; raises what it raised, since the other processes wait for what will not come."""
    is_done = bool(concurrent.futures.wait([loading], seconds).done)
    if is_done:
        loading.result()
    return is_done
