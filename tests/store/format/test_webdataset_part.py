"""A WebDataset part: made the same each time, read by plain webdataset and NumPy without this project."""

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

import pld.store
from pld.store import open_store
from tests.store.world import World, tree

# webdataset leaves closing the tar to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

FORMAT = Path(pld.store.__file__).with_name("FORMAT.md")


def documented(path, block):
    """What FORMAT.md's code gives for a part."""
    blocks = re.findall(r"```python\n(.*?)```", FORMAT.read_text(), re.DOTALL)
    (code,) = [code for code in blocks if "webdataset.WebDataset" in code]
    names = {"np": np, "webdataset": webdataset}
    exec(code.replace("train-0012-....tar", str(path)).replace("v001", f"v{block:03d}"), names)
    return names


@pytest.fixture(
    scope="module",
    params=[{}, {"num_classes": 300, "k": 130}, {"num_classes": 70_000, "k": 2}, {"spread": 60, "k": 20}],
    ids=["small", "k130", "uint32", "k=C"],
)
def stored(request, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("store")
    world = World(format="webdataset", **request.param)
    world.write(tmp_path, 4, block_views=2)
    (path,) = (tmp_path / "parts/v002-003").glob("train-0001-*.tar")
    return world, path, open_store(str(tmp_path))


@pytest.mark.parametrize("view", [2, 3])
def test_plain_webdataset_reads_what_the_store_decodes(stored, view):
    world, path, store = stored
    topk, found = store.load_view(view)[np.arange(5, 14)], documented(path, view)
    assert np.array_equal(found["classes"], topk.classes.numpy())
    assert np.array_equal(found["logprobs"], topk.logprobs.numpy())
    assert np.array_equal(found["label"], topk.label_logprob.numpy())
    assert np.allclose(found["tails"], topk.tail_logmass.numpy(), rtol=1e-6)
    assert found["labels"].tolist() == world.labels[5:14].tolist()
    assert found["part"]["samples"]["keys"].tolist() == world.keys[5:14].tolist()
    assert found["about"]["first_view"] == 2
    assert found["about"]["fingerprint"] == world.identity.fingerprint


def test_members_are_plain_dated_1970_and_in_the_order_of_the_views(stored):
    _, path, _ = stored
    with tarfile.open(path, "r:") as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == ["part.json", "samples.npz", "v002.npz", "v003.npz"]
    assert {(member.mtime, member.mode, member.uid, member.isfile()) for member in members} == {(0, 0o644, 0, True)}


def test_the_same_input_gives_the_same_bytes(tmp_path):
    world = World(format="webdataset")
    for name in "ab":
        world.write(tmp_path / name, 3)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_both_formats_hold_the_same_numbers_under_one_fingerprint(tmp_path):
    stores = []
    for name in ("zarr", "webdataset"):
        World(format=name).write(tmp_path / name, 3)
        stores.append(open_store(str(tmp_path / name)))
    first, second = stores
    assert first.manifest.identity.fingerprint == second.manifest.identity.fingerprint
    assert first.stats == second.stats
    for view in range(3):
        a, b = first.load_view(view).grid, second.load_view(view).grid
        for name in ("classes", "depths", "label_depth", "tails"):
            assert getattr(a, name).dtype == getattr(b, name).dtype
            assert np.array_equal(getattr(a, name), getattr(b, name))


def test_a_shard_whose_samples_were_all_skipped_is_an_empty_part(tmp_path):
    world = World(sizes=(2, 1), format="webdataset")
    world.write_with_an_empty_part(tmp_path)
    store = open_store(str(tmp_path))
    assert len(store.load_view(0)) == len(store.keys) == store.num_samples == 2
    (path,) = (tmp_path / "parts/v000-000").glob("train-0001-*.tar")
    assert [member["__key__"] for member in webdataset.WebDataset(str(path), shardshuffle=False)] == ["part"]
