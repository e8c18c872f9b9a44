"""Stores of images without labels: what they hold and lack, in both formats, and all that is done with stores."""

import dataclasses
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from pld.errors import CorruptStoreError, DataError, FingerprintMismatchError, SignalError
from pld.store import Manifest, dataset_digest, open_store, open_stores
from pld.store.format.canonical import dump_document, load_document
from pld.store.maintain.convert import convert_store
from pld.store.maintain.repair import plan_repair, repair
from pld.store.maintain.transfer import transfer
from pld.store.maintain.verify import verify_store
from pld.store.objects.local_storage import LocalStorage
from tests.store.world import World, tree

FORMATS = ("zarr", "webdataset")
WORLD = World(labelled=False)


def problems(root):
    return list(verify_store(LocalStorage(root), lambda *_: None))


@pytest.fixture(scope="module", params=FORMATS)
def written(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("unlabelled") / "store"
    dataclasses.replace(WORLD, format=request.param).write(root, 5, block_views=3)
    return root


def whole(world, view, k=None):
    """A view's signals of all shards, as the teacher gave them."""
    signals = [world.signal(shard.name, view, k) for shard in world.shards]
    names = ("classes", "logprobs", "tail_logmass")
    return {name: torch.cat([getattr(signal, name) for signal in signals]) for name in names}


def test_it_holds_the_teachers_top_k_and_no_labels(written):
    store = open_store(str(written))
    assert not store.is_labelled
    assert store.labels is None
    assert store.num_samples == 17
    assert store.stats.accuracy is None
    assert store.manifest.identity.dataset.digest == dataset_digest(WORLD.keys, None)
    for view in range(5):
        topk, wanted = store.load_view(view)[range(17)], whole(WORLD, view)
        assert (topk.labels, topk.label_logprob) == (None, None)
        topk.validate(WORLD.num_classes)
        assert torch.equal(topk.classes, wanted["classes"])
        for name in ("logprobs", "tail_logmass"):
            assert float((getattr(topk, name) - wanted[name]).abs().max()) <= 2 * topk.logprob_error


def test_its_parts_have_no_arrays_of_labels(written):
    for part in written.glob("parts/*/*"):
        if part.suffix == ".zip":
            with zipfile.ZipFile(part) as archive:
                names = {name.partition("/")[0] for name in archive.namelist()} - {"zarr.json"}
        else:
            with tarfile.open(part) as tar:
                inside = [tar.extractfile(member) for member in tar if member.name.endswith(".npz")]
                names = {name.removesuffix(".npy") for file in inside for name in zipfile.ZipFile(file).namelist()}
        assert names == {"keys", "classes", "logprobs", "scaled_tail_logmass"}
    assert set(open_store(str(written)).array_bytes) == {*names, "container", "commits"}


def test_a_smaller_k_is_what_would_have_been_cached(written):
    topk, wanted = open_store(str(written)).load_view(1, k=2)[range(17)], whole(WORLD, 1, k=2)
    assert torch.equal(topk.classes, wanted["classes"])
    assert float((topk.tail_logmass - wanted["tail_logmass"]).abs().max()) <= 2 * topk.logprob_error
    topk.validate(WORLD.num_classes)


def test_it_is_verified_and_repaired_to_the_byte(written, tmp_path):
    assert problems(written) == []
    world = dataclasses.replace(WORLD, format=open_store(str(written)).manifest.format)
    world.write(tmp_path, 5, block_views=3)
    before, storage = tree(tmp_path), LocalStorage(tmp_path)
    part = sorted(tmp_path.glob("parts/*/*"))[1]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    found = problems(tmp_path)
    assert part.name in found[0].name
    repair(storage, plan_repair(storage, open_store(str(tmp_path)).manifest, found), found)
    world.write(tmp_path, 5, block_views=3)
    assert tree(tmp_path) == before


def test_another_key_is_found(tmp_path):
    writer = WORLD.open_writer(tmp_path)
    for part in writer.missing_parts(1):
        rows = WORLD.rows(part.shard)
        keys = [key.decode().replace("n00000", "m00000") for key in WORLD.keys[rows].tolist()]
        writer.write_part(part, keys, None, [WORLD.signal(part.shard, 0)])
    writer.seal()
    assert any("samples have the digest" in problem.found for problem in problems(tmp_path))


def test_conversion_there_and_back_and_copies_are_the_same_bytes(written, tmp_path):
    here = open_store(str(written)).manifest.format
    there = next(name for name in FORMATS if name != here)
    convert_store(str(written), str(tmp_path / "there"), there, lambda _: None)
    assert problems(tmp_path / "there") == []
    convert_store(str(tmp_path / "there"), str(tmp_path / "back"), here, lambda _: None)
    assert tree(tmp_path / "back") == tree(written)
    list(transfer(LocalStorage(written), LocalStorage(tmp_path / "copy"), None)[1])
    assert tree(tmp_path / "copy") == tree(written)


def test_a_shard_whose_samples_were_all_skipped(tmp_path):
    world = dataclasses.replace(WORLD, sizes=(5, 9))
    world.write_with_an_empty_part(tmp_path)
    assert problems(tmp_path) == []
    store = open_store(str(tmp_path))
    assert (store.num_samples, len(store.skipped), len(store.load_view(0))) == (5, 9, 5)


def test_the_writer_takes_no_labels_and_no_signal_with_labels(tmp_path):
    writer, labelled = WORLD.open_writer(tmp_path / "a"), World()
    part = writer.missing_parts(1)[0]
    rows, signal = WORLD.rows(part.shard), WORLD.signal(part.shard, 0)
    with pytest.raises(DataError, match="labels: found some, wanted None: the identity's dataset has labelled = False"):
        writer.write_part(part, WORLD.keys[rows], WORLD.labels[rows], [signal])
    with pytest.raises(SignalError, match="made for other labels than the part's"):
        writer.write_part(part, WORLD.keys[rows], None, [labelled.signal(part.shard, 0)])
    writer = labelled.open_writer(tmp_path / "b")
    writer.missing_parts(1)
    with pytest.raises(DataError, match="labels: found none, wanted one for each key"):
        writer.write_part(part, WORLD.keys[rows], None, [signal])
    with pytest.raises(SignalError, match="made for other labels than the part's"):
        writer.write_part(part, WORLD.keys[rows], WORLD.labels[rows], [signal])
    with pytest.raises(FingerprintMismatchError, match=r"dataset\.labelled"):
        labelled.open_writer(tmp_path / "a")


def test_a_commit_that_counts_correct_choices_is_refused(tmp_path):
    WORLD.write(tmp_path, 1)
    path = next(tmp_path.glob("commits/*/*"))
    commit = load_document(path.read_bytes(), "commit")
    path.write_bytes(dump_document(commit | {"stats": commit["stats"] | {"num_correct": 1}}))
    with pytest.raises(CorruptStoreError, match="whether correct choices are counted: found True, wanted False"):
        _ = open_store(str(tmp_path)).stats


def test_that_samples_are_labelled_is_not_written(tmp_path):
    World().write(tmp_path, 1)
    document = load_document((tmp_path / "store.json").read_bytes(), "store.json")
    assert "labelled" not in document["identity"]["dataset"]
    document["identity"]["dataset"]["labelled"] = True
    with pytest.raises(CorruptStoreError, match="labelled': unknown to format 1, or left out at this value"):
        Manifest.load(dump_document(document), "store.json")


class Other(World):
    """Another teacher of the same images."""

    @property
    def identity(self):
        identity = super().identity
        return dataclasses.replace(identity, teacher=dataclasses.replace(identity.teacher, name="other"))

    def logits(self, shard, view):
        return super().logits(shard, view).flip(1)


@pytest.mark.parametrize("combine", ["average", "pick"])
def test_several_teachers(tmp_path, combine):
    WORLD.write(tmp_path / "a", 2)
    other = Other(labelled=False)
    other.write(tmp_path / "b", 2)
    group = open_stores([str(tmp_path / "a"), str(tmp_path / "b")], combine)
    assert not group.is_labelled
    topk = group.load_view(1)[group.rows(WORLD.keys)]
    assert topk.labels is None
    topk.validate(WORLD.num_classes)
    own = [whole(world, 1)["classes"] for world in (WORLD, other)]
    if combine == "pick":
        chosen = torch.stack([(topk.classes == classes).all(1) for classes in own])
        assert bool((chosen.sum(0) == 1).all())
        assert bool(chosen.any(1).all())
    else:
        dense = [torch.cat([w.logits(shard.name, 1) for shard in w.shards]).softmax(1) for w in (WORLD, other)]
        mean = torch.stack(dense).mean(0).gather(1, topk.classes)
        known = topk.logprobs.exp()  # what neither teacher lists is in the tail
        assert bool((known <= mean * np.exp(topk.logprob_error) + 1e-6).all())


def test_a_labelled_and_an_unlabelled_store_are_not_read_together(tmp_path):
    World().write(tmp_path / "a", 1)
    WORLD.write(tmp_path / "b", 1)
    with pytest.raises(FingerprintMismatchError, match=r"labelled True, not False.*both or neither with --unlabelled"):
        open_stores([str(tmp_path / "a"), str(tmp_path / "b")])
