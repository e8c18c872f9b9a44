"""A Zarr part's bytes: made the same each time, opened by zarr and xarray without this project."""

import zipfile

import fsspec
import numpy as np
import pytest
import xarray
import zarr

from pld.store import open_store
from pld.store.format.blocks import Block, PartId
from tests.store.world import World, tree

# numcodecs' delta is registered with zarr, not in its specification: that is all the warning says.
pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")


@pytest.fixture(
    scope="module",
    params=[{}, {"num_classes": 300, "k": 130}, {"num_classes": 70_000, "k": 2}],
    ids=["small", "k130", "uint32"],
)
def stored(request, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("store")
    world = World(**request.param)
    world.write(tmp_path, 3)
    (path,) = (tmp_path / "parts/v000-002").glob("train-0001-*.zarr.zip")
    table = open_store(str(tmp_path)).load_view(1)
    return world, path, table[np.arange(5, 14)]


def test_plain_zarr_reads_what_the_store_decodes(stored):
    world, path, topk = stored
    group = zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")
    assert np.array_equal(group["classes"][1], topk.classes.numpy())
    logprobs = group["logprobs"]
    assert np.array_equal(logprobs[1] * logprobs.attrs["scale_factor"], topk.logprobs.numpy())
    assert group["labels"][:].tolist() == world.labels[5:14].tolist()
    keys = [bytes(row).rstrip(b"\0") for row in group["keys"][:]]
    assert keys == world.keys[5:14].tolist()
    assert group.attrs["first_view"] == 0


def test_xarray_scales_and_masks_by_itself(stored):
    _, path, topk = stored
    with xarray.open_zarr(zarr.storage.ZipStore(path, mode="r"), consolidated=False, chunks=None) as part:
        assert part.logprobs.dims == ("view", "sample", "rank")
        assert np.array_equal(part.logprobs[1], topk.logprobs.numpy())
        among = part.logprobs.where(part.classes == part.labels).max("rank")
        assert np.array_equal(part.label_logprob.fillna(among)[1], topk.label_logprob.numpy())
        assert bool((part.label_logprob.isnull() == among.notnull()).all())
        tails = part.scaled_tail_logmass[1] / part.attrs["temperatures"]
        assert np.allclose(tails.fillna(-np.inf), topk.tail_logmass.numpy(), rtol=1e-6)


def test_the_zip_opens_through_fsspec_and_is_not_compressed(stored):
    _, path, topk = stored
    store = zarr.storage.FsspecStore.from_mapper(fsspec.get_mapper(f"zip::{path}"))
    assert zarr.open_group(store, mode="r")["classes"][1].tolist() == topk.classes.tolist()
    with zipfile.ZipFile(path) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.testzip() is None


def test_the_same_input_gives_the_same_bytes_whatever_the_threads(tmp_path):
    import numcodecs.blosc

    world = World(sizes=(700,), num_classes=200, k=60)
    world.write(tmp_path / "a", 3)
    before = numcodecs.blosc.set_nthreads(4)
    try:
        world.write(tmp_path / "b", 3)
    finally:
        numcodecs.blosc.set_nthreads(before)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_shard_whose_samples_were_all_skipped_is_an_empty_part(tmp_path):
    world = World(sizes=(2, 1))
    world.write_with_an_empty_part(tmp_path)
    store = open_store(str(tmp_path))
    assert (store.num_samples, store.skipped) == (2, ("n00002_é",))
    assert len(store.load_view(0)) == len(store.keys) == 2
    (path,) = (tmp_path / "parts/v000-000").glob("train-0001-*.zarr.zip")
    assert zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")["logprobs"].shape == (1, 0, world.k)


def test_names_say_shard_and_block():
    part = PartId(block=Block(first=10, last=19), shard="train-0012")
    assert part.commit_name == "commits/v010-019/train-0012.json"
    assert list(part.views) == list(range(10, 20))
