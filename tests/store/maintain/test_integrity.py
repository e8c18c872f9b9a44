"""Any byte flipped, any object cut or lost, any field changed: found and named, and never read as something else."""

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from pld.errors import CorruptStoreError, NotCachedError, StoreError
from pld.store import Commit, Manifest, Probe, open_store
from pld.store.format.canonical import dump_document, load_document
from pld.store.format.typed_json import parse_document
from pld.store.maintain.verify import verify_store
from pld.store.objects.local_storage import LocalStorage
from tests.store.world import World, paths_of, replaced, tree

SAMPLED = 40


class Stored(NamedTuple):
    """The root, the bytes of every object, its number of views, and all that a reader gets of them."""

    root: Path
    objects: dict[str, bytes]
    num_views: int
    read: list


def make(root, format, num_views, sizes=(3, 2)):
    writer = World(sizes=sizes, num_classes=9, k=3, format=format).write(root, num_views, block_views=2)
    writer.add_probes(
        [Probe(key="n00000_é", view=0, pixels=np.arange(48, dtype=np.uint8).reshape(3, 4, 4), image_size=(40, 48))]
    )
    return Stored(root, tree(root), num_views, read_all(root, num_views))


@pytest.fixture(scope="module", params=["zarr", "webdataset"])
def store(request, tmp_path_factory):
    """Two blocks, the second of one view."""
    return make(tmp_path_factory.mktemp("store"), request.param, 3)


@pytest.fixture(scope="module", params=["zarr", "webdataset"])
def small(request, tmp_path_factory):
    """An object of each kind, for what is tried at each of its bytes."""
    return make(tmp_path_factory.mktemp("small"), request.param, 1, sizes=(2,))


@contextlib.contextmanager
def changed(store, name, data):
    """The store with other bytes (None: none) in one object."""
    path = store.root / name
    try:
        path.unlink() if data is None else path.write_bytes(data)
        yield store.root
    finally:
        path.write_bytes(store.objects[name])


def names_found(root):
    return {problem.name for problem in verify_store(LocalStorage(root), lambda *_: None)}


def is_named(root, name):
    try:
        return name in names_found(root)
    except NotCachedError as error:
        return name == "store.json" and name in str(error)


def read_all(root, num_views):
    opened = open_store(str(root))
    tables = [opened.load_view(view) for view in range(num_views)]
    arrays = [array for table in tables for array in table.grid]
    pixels = [probe.pixels for probe in opened.probes]
    return [opened.keys, opened.labels, *arrays, *pixels, opened.stats, opened.manifest]


def check(store, name, data):
    """Verify names the object; reading refuses it by its name, or does not need what was changed."""
    with changed(store, name, data) as root:
        assert is_named(root, name), (name, data)
        try:
            read = read_all(root, store.num_views)
        except StoreError as caught:
            error = caught
        else:
            assert name.split("/")[0] in {"seals", "parts"}, name
            assert all(np.array_equal(a, b) for a, b in zip(read, store.read, strict=True)), name
            return
        # A block's file that is gone takes its views with it; they are then not cached.
        assert name in str(error) or (isinstance(error, NotCachedError) and data is None), (name, str(error))


def flips(store):
    return [(name, position) for name, data in store.objects.items() for position in range(len(data))]


def flipped(data, position):
    return data[:position] + bytes([data[position] ^ (1 << position % 8)]) + data[position + 1 :]


def test_a_sound_store_is_sound(store):
    assert names_found(store.root) == set()


def test_flipped_bytes(store):
    everywhere = flips(store)
    for index in np.random.default_rng(0).permutation(len(everywhere))[:SAMPLED]:
        name, position = everywhere[index]
        check(store, name, flipped(store.objects[name], position))


@pytest.mark.long
@pytest.mark.parametrize("residue", range(8))
def test_every_flipped_byte(small, residue):
    for name, position in flips(small)[residue::8]:
        check(small, name, flipped(small.objects[name], position))


def test_cut_and_lost_objects(store):
    for name, data in store.objects.items():
        for kept in (None, 0, len(data) - 1):
            if kept is None and name == "probes.json":
                continue  # a store without them is whole, see docs/decisions/0009
            check(store, name, None if kept is None else data[:kept])


@pytest.mark.long
@pytest.mark.parametrize("residue", range(8))
def test_objects_cut_anywhere(small, residue):
    for name, position in flips(small)[residue::8]:
        check(small, name, small.objects[name][:position])


def other(value):
    """A value of the same kind that is another."""
    if isinstance(value, bool) or value is None:
        return 0
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return "0" * len(value) if set(value) - {"0"} else "1" * (len(value) or 1)
    return None


def changed_fields(document):
    """The document with each field, of each object and list inside, changed or missing."""
    for path in list(paths_of(document))[1:]:
        value = document
        for step in path:
            value = value[step]
        yield path, replaced(document, path, other(value))
    for name in document:
        yield (name,), {field: value for field, value in document.items() if field != name}


@pytest.mark.parametrize("kind", ["store.json", "commits/", "seals/", "blocks/", "probes.json"])
def test_every_changed_field_of_a_document(store, kind):
    name = next(name for name in store.objects if name.startswith(kind))
    document = json.loads(store.objects[name])
    for _, fields in changed_fields(document):
        check(store, name, json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n")


@pytest.mark.parametrize("kind", ["store.json", "commits/", "seals/", "blocks/"])
def test_every_changed_field_of_a_document_whose_digest_is_made_anew(store, kind):
    """Another object tells: a commit its seal, a seal and a block's file the commits, the identity its fingerprint."""
    name = next(name for name in store.objects if name.startswith(kind))
    document = load_document(store.objects[name], name)
    for path, fields in changed_fields(document):
        if path[:1] != ("provenance",):
            with changed(store, name, dump_document(fields)) as root:
                # A seal and a commit that disagree: the commit is named, for its digest is not the sealed one.
                found = names_found(root)
                assert name in found or (path[0] in {"shards", "commits"} and found), path


def test_a_manifest_of_another_identity_and_its_own_fingerprint(store):
    """Then all commits say that they are another store's."""
    objects = store.objects
    manifest = Manifest.load(objects["store.json"], "store.json")
    document = load_document(objects["store.json"], "store.json")
    identity = manifest.identity.to_json()
    for path in paths_of(identity):
        for new in (1, "1" * 64, 0.5, "fp16"):
            data = document | {"identity": replaced(identity, path, new)}
            with contextlib.suppress(CorruptStoreError):
                other_manifest = Manifest.load(dump_document(_with_its_fingerprint(data)), "store.json")
                if other_manifest.identity == manifest.identity:
                    continue
                with changed(store, "store.json", other_manifest.dump()) as root:
                    assert {name for name in objects if name.startswith("commits")} <= names_found(root), path


def _with_its_fingerprint(document):
    try:
        return Manifest.load(dump_document(document), "x") and document
    except CorruptStoreError as error:
        _, _, true = str(error).partition("its identity has ")
        return document | {"fingerprint": true}


def test_a_commit_that_two_stores_could_share_is_told_apart(store):
    """The part's name, bytes and digests are those of its content: a commit of other content names another part."""
    objects = store.objects
    commits = [parse_document(Commit, data, name) for name, data in objects.items() if name.startswith("commits")]
    assert len({commit.part_name for commit in commits}) == len(commits) == 4
