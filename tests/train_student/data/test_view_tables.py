"""A view's table is the store's, whoever loads it and when."""

import dataclasses
import threading

import numpy as np
import pytest
import torch

from pld.errors import NotCachedError
from pld.store import open_store, open_stores
from tests.store.world import World
from train_student.data.view_tables import ViewTables


@pytest.fixture
def store(world):
    return open_store(str(world / "full"))


def same(table, wanted) -> bool:
    rows = np.arange(len(wanted))[::-1].copy()
    pairs = zip(dataclasses.astuple(table[rows]), dataclasses.astuple(wanted[rows]), strict=True)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def counting(store, monkeypatch) -> list[tuple[int, str]]:
    loads, load_view = [], store.load_view

    def load(view: int):
        loads.append((view, threading.current_thread().name))
        return load_view(view)

    monkeypatch.setattr(store, "load_view", load)
    return loads


def test_a_prepared_view_is_loaded_once_and_elsewhere(store, monkeypatch):
    loads, tables = counting(store, monkeypatch), ViewTables(store)
    first = tables[(0,)][0]
    for _ in range(3):
        tables.prepare((1,))
    assert tables.is_settled()
    assert tables[(0,)][0] is first
    assert same(tables[(1,)][0], open_store(store.url).load_view(1))
    assert same(tables[(0,)][0], open_store(store.url).load_view(0))  # nobody prepared it
    assert [view for view, _ in loads] == [0, 1, 0]
    assert all(thread.startswith("view") for _, thread in loads)


@pytest.mark.parametrize("ask", [ViewTables.is_settled, lambda tables, seconds: tables.is_ready((99,), seconds)])
def test_what_cannot_be_loaded_is_said_by_who_loads_it(store, tmp_path, ask):
    """Others of the node wait for it, and ask as long as one of them is not ready."""
    writer, other = (ViewTables(store, tmp_path, writes=writes) for writes in (True, False))
    for tables in (writer, other):
        tables.prepare((99,))
    assert not ask(other, 0.1)
    with pytest.raises(NotCachedError, match="view 99"):
        ask(writer, 60.0)
    assert same(writer[(0,)][0], store.load_view(0))
    assert same(other[(0,)][0], store.load_view(0))
    (tmp_path / "99").mkdir()  # for the thread that waits for it, and would keep this process for an hour


def test_processes_of_a_node_map_one_table(store, tmp_path, monkeypatch):
    """The one that writes loads it, the others wait for it and load nothing."""
    loads = counting(store, monkeypatch)
    writer, *others = [ViewTables(store, tmp_path, writes=number == 0) for number in range(3)]
    for view in (0, 1, 2, 0):
        for tables in others:
            tables.prepare((view,))
        for tables in (writer, *others):
            assert same(tables[(view,)][0], open_store(store.url).load_view(view))
            assert isinstance(tables[(view,)][0].grid.depths, np.memmap)
    assert [view for view, _ in loads] == [0, 1, 2, 0]


@pytest.mark.parametrize("combine", ["average", "pick"])
def test_processes_of_a_node_map_the_tables_of_all_teachers(world, tmp_path, combine):
    """Teachers that hold unequal numbers of classes: each one's integers are a folder's."""
    stores = open_stores([str(world / "full"), str(world / "top5")], combine=combine)
    writer, other = (ViewTables(stores, tmp_path, writes=writes) for writes in (True, False))
    for view in (0, 2):
        rows, wanted = stores.rows(stores.members[0].keys), stores.load_view(view)
        for tables in (writer, other):
            mapped = tables[(view,)][0]
            assert all(isinstance(table.grid.depths, np.memmap) for table in mapped.tables)
            pairs = zip(*(dataclasses.astuple(table[rows]) for table in (mapped, wanted)), strict=True)
            assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_a_writer_keeps_this_view_and_the_next(store, tmp_path):
    tables = ViewTables(store, tmp_path)
    first = tables[(0,)][0]
    for view in (1, 0, 1, 2, 0, 2):
        tables.prepare((view,))
        assert same(tables[(view,)][0], store.load_view(view))
        assert len(list(tmp_path.iterdir())) == 2
    assert same(first, store.load_view(0))  # mapped still


def test_an_epochs_views_are_loaded_once(store, monkeypatch):
    """Two views an epoch of the three that there are: one of them is here already when the next epoch begins."""
    loads, tables = counting(store, monkeypatch), ViewTables(store)
    for views, new in (((0, 1), [0, 1]), ((2, 0), [2]), ((1, 2), [1]), ((0, 1), [0])):
        tables.prepare(views)
        assert tables.is_settled()
        found = tables[views]
        assert [table.view for table in found] == list(views)
        assert all(same(table, open_store(store.url).load_view(view)) for table, view in zip(found, views, strict=True))
        assert [view for view, _ in loads] == new
        loads.clear()


def test_processes_of_a_node_map_an_epochs_views(store, tmp_path, monkeypatch):
    loads = counting(store, monkeypatch)
    writer, other = (ViewTables(store, tmp_path, writes=writes) for writes in (True, False))
    epochs = [(0, 1), (2, 0), (1, 2), (0, 1)]
    for epoch, views in enumerate(epochs):
        for tables in (writer, other):
            found = tables[views]
            assert all(same(table, open_store(store.url).load_view(v)) for table, v in zip(found, views, strict=True))
            assert len(list(tmp_path.iterdir())) <= 3
        for tables in (writer, other):
            tables.prepare(epochs[(epoch + 1) % len(epochs)])
            assert tables.is_settled()
    assert len(loads) <= 5


def test_a_store_without_labels_is_shared_too(tmp_path):
    World(labelled=False).write(tmp_path / "store", 1)
    store = open_store(str(tmp_path / "store"))
    (tmp_path / "node").mkdir()
    writer, other = (ViewTables(store, tmp_path / "node", writes=writes) for writes in (True, False))
    assert same(writer[(0,)][0], store.load_view(0))
    assert same(other[(0,)][0], store.load_view(0))
    assert other[(0,)][0].labels is None
