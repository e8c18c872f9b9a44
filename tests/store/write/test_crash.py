"""kill -9 at random moments, alone and beside others, on a disk and on S3 through a proxy that fails: the finished
store is an undisturbed one, byte for byte."""

import pytest

from pld.store import open_store
from pld.store.documents.commit import read_commit
from pld.store.documents.layout import read_layout
from pld.store.documents.manifest import read_manifest
from pld.store.maintain.verify import verify_store
from pld.store.objects.open import open_storage
from tests.object_store import FaultyProxy
from tests.store.world import World, tree
from tests.store.writers import crash_and_finish, the_world


def undisturbed(root, shards=4, views=6):
    the_world(shards).write(root, views, block_views=2)
    return tree(root)


def contents(url):
    """All objects of a store, unfinished ones too."""
    storage = open_storage(str(url))
    return {name: storage.read(name, 2**26) for name in (*storage.list(""), *storage.leftovers())}


def assert_valid(url):
    """`pld verify` finds nothing, every view is complete, and nothing lies beside parts that commits name."""
    storage = open_storage(str(url))
    manifest = read_manifest(storage)
    layout = read_layout(storage, manifest)
    assert list(verify_store(storage, lambda num_bytes, total: None)) == []
    assert open_store(str(url)).num_views == layout.blocks[-1].last + 1
    named = {read_commit(storage, manifest, part).part_name for part in layout.committed}
    assert set(storage.list("parts")) == named
    assert storage.leftovers() == {}


def test_killed_and_resumed(tmp_path):
    crash_and_finish(tmp_path / "killed", rounds=20, writers=1, seconds=0.12)
    World(sizes=(30, 20, 25, 5)).open_writer(tmp_path / "killed").seal()
    assert tree(tmp_path / "killed") == undisturbed(tmp_path / "undisturbed")


def test_four_writers_at_once_killed_and_resumed(tmp_path):
    crash_and_finish(tmp_path / "killed", rounds=5, writers=4, seconds=0.12)
    # The last of them to finish has swept; a writer that finds nothing missing does so too.
    World(sizes=(30, 20, 25, 5)).open_writer(tmp_path / "killed").seal()
    assert tree(tmp_path / "killed") == undisturbed(tmp_path / "undisturbed")


@pytest.mark.long
def test_four_writers_at_once_killed_in_20_rounds(tmp_path):
    killed = crash_and_finish(tmp_path / "killed", rounds=20, writers=4, seconds=0.4, shards=60, views=12)
    assert killed >= 20
    the_world(60).open_writer(tmp_path / "killed").seal()
    assert tree(tmp_path / "killed") == undisturbed(tmp_path / "undisturbed", 60, 12)


def test_two_writers_at_once_undisturbed(tmp_path):
    crash_and_finish(tmp_path / "two", rounds=0, writers=2, seconds=0)
    assert tree(tmp_path / "two") == undisturbed(tmp_path / "undisturbed")


def test_writers_whose_bits_differ_end_in_one_valid_store(tmp_path):
    crash_and_finish(tmp_path / "two", rounds=2, writers=3, seconds=0.1, perturbed=True)
    the_world(4).open_writer(tmp_path / "two").seal()
    assert_valid(tmp_path / "two")


S3_RUNS = [
    pytest.param({"rounds": 1, "writers": 2, "seconds": 1.5, "shards": 2, "views": 4}, id="quick"),
    pytest.param(
        {"rounds": 20, "writers": 4, "seconds": 3.0, "shards": 12, "views": 12}, id="20 rounds", marks=pytest.mark.long
    ),
]


@pytest.mark.parametrize("perturbed", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("settings", S3_RUNS)
def test_killed_on_s3_through_a_proxy_that_fails_and_cuts(bucket, object_store, tmp_path, settings, perturbed):
    shards, views, url = settings["shards"], settings["views"], f"{bucket}/store"
    with FaultyProxy(object_store.port, failing=0.1, cutting=0.05) as proxy:
        env = object_store.environment(proxy.port)
        killed = crash_and_finish(url, **settings, perturbed=perturbed, env=env)
        assert proxy.faults.total() - proxy.faults["none"] >= 5, proxy.faults
    assert killed >= settings["rounds"]
    the_world(shards).open_writer(url).seal()
    if perturbed:
        assert_valid(url)
    else:
        assert contents(url) == undisturbed(tmp_path / "undisturbed", shards, views)


def test_what_a_killed_writer_with_other_bits_left_goes_when_the_block_is_complete(tmp_path):
    world = World()
    writer = world.open_writer(tmp_path)
    parts = writer.missing_parts(1)
    orphans = [tmp_path / "parts/v000-000" / name for name in (f"train-0000-{'0' * 16}.zarr.zip", f".x.{'0' * 32}.tmp")]
    for part in parts:
        assert all(orphan.exists() for orphan in orphans) == (part != parts[0])
        world.write_part(writer, part)
        [orphan.touch() for orphan in orphans]
        if part != parts[-1]:
            writer.seal()
    writer.seal()
    assert not any(orphan.exists() for orphan in orphans)
    world.write(tmp_path.parent / "undisturbed", 1)
    assert tree(tmp_path) == tree(tmp_path.parent / "undisturbed")
