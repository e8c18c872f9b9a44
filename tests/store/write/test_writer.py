"""StoreWriter: resume, grow, adopt; full disks and damage."""

import dataclasses
import doctest
import errno
import hashlib
import os

import numpy as np
import pytest
import torch

import pld.store
import pld.views
from pld.errors import ConfigError, CorruptStoreError, DataError, FingerprintMismatchError, StoreError
from pld.signals import TopK
from pld.store import CodecIdentity, Identity, Shard, StoreWriter, dataset_digest, open_store
from pld.store.format.typed_json import parse
from tests.store.world import World, tree


def test_a_resumed_and_grown_store_is_byte_identical_to_one_written_at_once(tmp_path):
    world = World()
    world.write(tmp_path / "once", 5, block_views=2)
    for stop in (1, 4, 7, 99):
        writer = world.open_writer(tmp_path / "pieces")
        for part in writer.missing_parts(5, block_views=2)[:stop]:
            world.write_part(writer, part)
        writer.seal()
    assert tree(tmp_path / "once") == tree(tmp_path / "pieces")


def test_growing_touches_nothing_that_is_there(tmp_path):
    world = World()
    world.write(tmp_path, 2)
    before = tree(tmp_path)
    world.write(tmp_path, 5)
    after = tree(tmp_path)
    assert {name: after[name] for name in before} == before
    assert open_store(str(tmp_path)).num_views == 5


def test_the_second_writer_of_a_part_adopts_the_firsts_commit(tmp_path):
    world, other = World(), World(seed=1)
    writer = world.open_writer(tmp_path)
    part = writer.missing_parts(1)[0]
    first = world.write_part(writer, part)
    before = tree(tmp_path)
    rows = world.rows(part.shard)
    labels = torch.from_numpy(world.labels[rows])
    perturbed = [TopK.from_logits(other.logits(part.shard, 0), labels, world.k, world.identity.codec.temperatures)]
    adopted = writer.write_part(part, world.keys[rows], world.labels[rows], perturbed)
    assert adopted == first
    assert tree(tmp_path) == before


def test_who_decoded_is_named_only_where_it_was_not_the_cpu(tmp_path):
    identity = World().identity
    by_gpu = dataclasses.replace(identity, views=dataclasses.replace(identity.views, decoder="nvjpeg"))
    assert "decoder" not in identity.to_json()["views"]
    for each in (identity, by_gpu):
        read = parse(Identity, each.to_json(), "x")
        assert (read.fingerprint, read.views.decoder) == (each.fingerprint, each.views.decoder)
    for found in ("cpu", "pillow", 7, None):
        value = identity.to_json()
        value["views"]["decoder"] = found
        with pytest.raises(CorruptStoreError, match="decoder"):
            parse(Identity, value, "x")


def test_another_fingerprint_is_refused_with_both_values(tmp_path):
    world = World()
    world.write(tmp_path, 1)
    teacher = dataclasses.replace(world.identity.teacher, tag="a3_in1k")
    changed = dataclasses.replace(world.identity, teacher=teacher, codec=CodecIdentity(k=5))
    with pytest.raises(FingerprintMismatchError) as caught:
        StoreWriter.open(str(tmp_path), changed, world.shards, {})
    message = str(caught.value)
    assert "teacher.tag: the store has 'a1_in1k', this run wants 'a3_in1k'" in message
    assert "codec.k: the store has 4, this run wants 5" in message
    assert world.identity.fingerprint[:12] in message
    assert changed.fingerprint[:12] in message


def test_the_same_samples_in_other_shards_are_refused(tmp_path):
    world = World()
    world.write(tmp_path, 1)
    with pytest.raises(FingerprintMismatchError, match=r"shards\[0\].num_samples: the store has 5, this run wants 6"):
        StoreWriter.open(
            str(tmp_path),
            world.identity,
            [Shard(name="train-0000", num_samples=6), *world.shards[1:-1], Shard(name="train-0002", num_samples=2)],
            {},
        )


@pytest.mark.parametrize(
    ("shards", "complaint"),
    [
        ([("a", 17), ("A", 0)], "name of its own"),
        ([("../a", 17)], "name of its own"),
        ([("a", 16)], "hold 16 samples, the dataset 17"),
        ([("a", 17), ("b", 0)], "at least one"),
    ],
)
def test_shards_that_cannot_be_are_refused_and_nothing_is_written(tmp_path, shards, complaint):
    world = World()
    with pytest.raises(ConfigError, match=complaint):
        StoreWriter.open(str(tmp_path), world.identity, [Shard(name=n, num_samples=s) for n, s in shards], {})
    assert tree(tmp_path) == {}


def test_places_may_be_paths_and_numbers_numpys(tmp_path):
    world = World(sizes=(3,))
    writer = StoreWriter.open(tmp_path / "a store", world.identity, world.shards, {})
    assert len(writer.missing_parts(np.int64(2), block_views=1)) == 2
    for part in writer.missing_parts(2):
        world.write_part(writer, part)
    writer.seal()
    for place in (tmp_path / "a store", str(tmp_path / "a store"), (tmp_path / "a store").as_uri()):
        assert open_store(place).num_views == 2


def test_blocks_of_one_shard_must_have_the_same_samples(tmp_path):
    world = World(sizes=(3,))
    writer = world.open_writer(tmp_path)
    first, second = writer.missing_parts(2, block_views=1)
    world.write_part(writer, first)
    labels = world.labels[:2]
    fewer = TopK.from_logits(torch.zeros(2, 20), torch.from_numpy(labels), 4, world.identity.codec.temperatures)
    with pytest.raises(DataError, match="skipped in one of them alone: n00002"):
        writer.write_part(second, world.keys[:2], labels, [fewer], skipped=["n00002_é"])


@pytest.mark.parametrize("call", ["fsync", "link", "replace"])
def test_a_full_disk_is_said_and_nothing_half_written_is_left(tmp_path, monkeypatch, call):
    world = World()
    writer = world.open_writer(tmp_path)
    part = writer.missing_parts(1)[0]
    before = tree(tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace" if call == "replace" else f"os.{call}", full)
        with pytest.raises(StoreError, match="No space left on device; nothing half-written"):
            world.write_part(writer, part)
    left = {name: data for name, data in tree(tmp_path).items() if name not in before}
    assert all(name.startswith("parts/") and not name.endswith(".tmp") for name in left)
    for part in writer.missing_parts(1):
        world.write_part(writer, part)
    writer.seal()
    world.write(tmp_path.parent / "undisturbed", 1)
    assert tree(tmp_path) == tree(tmp_path.parent / "undisturbed")


def test_a_damaged_manifest_is_not_written_over(tmp_path):
    world = World()
    world.write(tmp_path, 1)
    (tmp_path / "store.json").write_bytes((tmp_path / "store.json").read_bytes()[:-9])
    with pytest.raises(CorruptStoreError, match=r"store\.json"):
        world.open_writer(tmp_path)


def test_the_datasets_digest_does_not_know_of_shards_or_their_order():
    keys, labels = np.array([b"b", b"a", b"c"]), np.array([1, 2, 3])
    assert dataset_digest(keys, labels) == dataset_digest(keys[[2, 0, 1]], labels[[2, 0, 1]])
    assert dataset_digest(keys, labels) != dataset_digest(keys, labels[[1, 0, 2]])


def test_the_documented_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"np": np, "torch": torch, "hashlib": hashlib, "TopK": TopK, **vars(pld.store), **vars(pld.views)}
    (example,) = doctest.DocTestFinder(recurse=False).find(StoreWriter, "StoreWriter", globs=names)
    assert len(example.examples) == 9
    assert doctest.DocTestRunner().run(example).failed == 0


def test_a_tuple_and_a_list_are_one_identity():
    world = World()
    views = dataclasses.replace(world.identity.views, policy={"name": "random_resized_crop", "scale": [0.08, 1]})
    assert dataclasses.replace(world.identity, views=views).fingerprint == world.identity.fingerprint
