"""StoreViews compares its images with what the teacher saw; it and join say where nvJPEG decoded the views."""

import logging

import pytest

from pld.errors import DifferentPixelsError
from pld.images import open_source
from pld.join.store_views import StoreViews
from pld.store import open_store
from pld.webdataset import join
from tests.making import jpeg, make_dataset, make_store, make_teacher, reencoded, shard_members, write_tar

SIZES = (9, 7)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store_views")
    make_dataset(folder / "data", shard_sizes=SIZES)
    make_teacher(folder / "teacher")
    make_store(folder, views=2, k=5)
    return folder


@pytest.fixture
def store(world):
    return open_store(world / "store")


def changed(folder, change):
    """The dataset with other images under the same keys."""
    for i, (first, num) in enumerate(((0, SIZES[0]), SIZES)):
        members = shard_members(first, num)
        write_tar(folder / f"train-000{i}.tar", {n: change(d) if n.endswith("jpg") else d for n, d in members.items()})
    return open_source(str(folder))


def test_the_teachers_images_are_taken_in_silence(world, store, caplog):
    StoreViews(store, open_source(str(world / "data")), 32)
    assert not caplog.records


def test_images_that_differ_a_little_are_warned_of_once(store, tmp_path, caplog):
    views = StoreViews(store, changed(tmp_path, reencoded), 32)
    assert [views[row][1] for row in range(16)] == list(range(16))
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pld.join.store_views", logging.WARNING)
    assert "a little differently than the teacher's: by at most" in record.getMessage()


def test_other_images_are_refused(store, tmp_path):
    with pytest.raises(DifferentPixelsError, match="pixels and is now 30 x 31"):
        StoreViews(store, changed(tmp_path, lambda data: jpeg(5, (30, 31))), 32)


def test_views_that_nvjpeg_decoded_are_warned_of(world, tmp_path, monkeypatch, caplog):
    """This store says so; there need be no GPU."""
    monkeypatch.setattr("cache_teacher.inputs._decoding_gpu", lambda config, device: None)
    store = open_store(make_store(world, str(tmp_path / "store"), views=1, k=5, decoder="nvjpeg"))
    caplog.clear()
    StoreViews(store, open_source(str(world / "data")), 32)
    join(store)
    assert [record.name for record in caplog.records] == ["pld.join.store_views"] * 2
    assert all("store: nvJPEG decoded the teacher's views" in record.getMessage() for record in caplog.records)
