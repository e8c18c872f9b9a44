"""Stores from strangers: an error of ours or a valid store, whatever they say; never much memory."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pld.errors import CorruptStoreError
from pld.store import Manifest, open_store
from pld.store.documents.commit import Commit
from pld.store.format.arrays import ArraySpec
from pld.store.format.canonical import dump_document, load_document, sha256_hex
from pld.store.format.typed_json import parse_document
from tests.processes import ROOT, python
from tests.store.world import World, paths_of, replaced

SPEC = ArraySpec("logprobs", np.dtype("<u2"), {"view": 1, "sample": 40, "rank": 10}, "bitshuffle", 20, delta=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def resigned(value):
    return dump_document(value if isinstance(value, dict) else {"x": value})


def refused_or(load, where):
    """What `load` gives, or None where it refuses, saying where."""
    try:
        return load()
    except CorruptStoreError as error:
        if not str(error).startswith(where):
            raise
        return None


def document_of(world, tmp_path_factory, name):
    root = tmp_path_factory.mktemp("hostile")
    world.write(root, 1)
    return root, load_document((root / name).read_bytes(), name)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return document_of(World(), tmp_path_factory, "store.json")[1]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return document_of(World(), tmp_path_factory, "commits/v000-000/train-0001.json")


@given(st.data())
@settings(max_examples=300)
def test_a_manifest_with_any_field_replaced_is_refused_or_valid(manifest, data):
    path = data.draw(st.sampled_from(list(paths_of(manifest))))
    changed = replaced(manifest, path, data.draw(VALUES))
    loaded = refused_or(lambda: Manifest.load(resigned(changed), "store.json"), "store.json")
    assert loaded is None or changed == manifest or path[0] in {"provenance", "shards"}


@given(st.data())
@settings(max_examples=300)
def test_a_commit_with_any_field_replaced_is_refused_or_valid(hostile, data):
    _, commit = hostile
    path = data.draw(st.sampled_from(list(paths_of(commit))))
    changed = replaced(commit, path, data.draw(VALUES))
    refused_or(lambda: parse_document(Commit, resigned(changed), "commit.json"), "commit.json")


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("part", "../../../etc/passwd", "found '../../../etc/passwd', wanted `str` matching regex"),
        ("part", "train-0002-0000000000000000.zarr.zip", "another place"),
        ("num_samples", 2**26, "wanted 9"),
        ("key_bytes", 4096, "decoded bytes"),
        ("key_bytes", 2**40, r"field 'key_bytes': found 1099511627776, wanted `int` <= 4096"),
        ("views", [], "chunks"),
        ("views", [[[1, 2]]], r"field \'views\[0\]\[0\]\': found \[1, 2\], wanted `array` of length 3"),
        ("samples", {}, "wanted `array`"),
        ("fingerprint", "0" * 64, "fingerprint"),
        ("shard", "train-0000", "part"),
    ],
)
def test_a_commit_that_lies_is_refused(hostile, field, value, complaint):
    root, commit = hostile
    path = root / "commits/v000-000/train-0001.json"
    genuine = path.read_bytes()
    try:
        path.write_bytes(dump_document(commit | {field: value}))
        store = open_store(str(root))
        with pytest.raises(CorruptStoreError, match=complaint):
            _ = store.keys
    finally:
        path.write_bytes(genuine)


@pytest.mark.parametrize("change", [{"num_samples": 8, "skipped": ["z"]}, {"samples_sha256": "0" * 64}])
def test_a_block_with_other_rows_than_the_first_is_refused(tmp_path, change):
    World().write(tmp_path, 2, block_views=1)
    path = tmp_path / "commits/v001-001/train-0001.json"
    path.write_bytes(dump_document(load_document(path.read_bytes(), "commit") | change))
    store = open_store(str(tmp_path))
    store.load_view(0)
    with pytest.raises(CorruptStoreError, match="other samples than in the store's first block"):
        store.load_view(1)


def test_chunks_spread_over_a_huge_range_are_not_fetched(hostile):
    root, commit = hostile
    path = root / "commits/v000-000/train-0001.json"
    genuine = path.read_bytes()
    far = [[[2**39, 100, "0" * 64], *commit["views"][0][1:]]]
    try:
        path.write_bytes(dump_document(commit | {"views": far}))
        with pytest.raises(CorruptStoreError, match="spread over"):
            open_store(str(root)).load_view(0)
    finally:
        path.write_bytes(genuine)


def test_classes_that_the_teacher_has_not_do_not_reach_a_student(tmp_path, monkeypatch):
    world = World(sizes=(8,))
    monkeypatch.setattr("pld.store.write.check.check_signal", lambda *_: None)
    signal = world.signal("train-0000", 0)
    writer = world.open_writer(tmp_path)
    (part,) = writer.missing_parts(1)
    signal.classes[3, 1] = 60_000
    writer.write_part(part, world.keys, world.labels, [signal])
    with pytest.raises(CorruptStoreError, match="found class 60000"):
        open_store(str(tmp_path)).load_view(0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 100_000,
        b'{"a":1e999}\n',
        b'{"a":NaN}\n',
        b'{"a":' + b"9" * 5000 + b"}\n",
        b'{"a":1,"a":1}\n',
        b'{"a":"\\ud800"}\n',
        b"\xff\xfe",
        b"null\n",
        b'{"digest":1}\n',
    ],
    ids=range(10),
)
def test_bytes_that_are_no_document_are_refused(data):
    with pytest.raises(CorruptStoreError, match=r"^store\.json: "):
        load_document(data, "store.json")


@pytest.mark.parametrize("depth", [40, 300, 600, 900])
def test_a_manifest_nested_deeply_is_refused(manifest, depth):
    policy = {"a": json.loads("[" * depth + "]" * depth)}
    views = manifest["identity"]["views"] | {"policy": policy}
    deep = [manifest | {"provenance": policy}, manifest | {"identity": manifest["identity"] | {"views": views}}]
    for document in [*deep, manifest | {"kind": policy}, manifest | {"format_version": policy}]:
        with pytest.raises(CorruptStoreError, match=r"^store\.json: "):
            Manifest.load(dump_document(document), "store.json")


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=300)
def test_any_bytes_as_a_chunk_are_refused_or_decode_to_its_shape(data, lies_well):
    if lies_well and len(data) >= 16:
        data = data[:4] + struct.pack("<I", SPEC.chunk_bytes) + data[8:12] + struct.pack("<I", len(data)) + data[16:]
    decoded = refused_or(lambda: SPEC.decode(data, "chunk"), "chunk")
    assert decoded is None or decoded.shape == (40, 10)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=300)
def test_a_chunk_with_any_bytes_changed_is_refused_or_decodes_to_its_shape(changes):
    data = bytearray(SPEC.encode(np.arange(400, dtype="<u2").reshape(40, 10)))
    for position, value in changes:
        data[position % len(data)] = value
    decoded = refused_or(lambda: SPEC.decode(bytes(data), "chunk"), "chunk")
    assert decoded is None or decoded.shape == (40, 10)


def test_a_chunk_that_says_it_is_a_gigabyte_costs_nothing():
    data = bytearray(SPEC.encode(np.zeros((40, 10), "<u2")))
    data[4:8] = struct.pack("<I", 2**30)
    tracemalloc.start()
    with pytest.raises(CorruptStoreError, match="1073741824 decoded bytes"):
        SPEC.decode(bytes(data), "chunk")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_the_digest_is_that_of_the_canonical_json():
    document = json.loads(dump_document({"b": 1, "a": "é"}))
    assert document["digest"] == sha256_hex('{"a":"é","b":1}'.encode())


@pytest.mark.parametrize("kind", [("zarr", "labelled"), ("webdataset", "labelled"), ("zarr", "unlabelled")])
@pytest.mark.parametrize("examples", [60, pytest.param(5000, marks=pytest.mark.long)])
def test_an_author_who_makes_every_digest_anew_gets_our_errors_and_little_memory(tmp_path, kind, examples):
    ran = python("-m", "tests.store.hostile", tmp_path, str(examples), *kind, cwd=ROOT, check=False, timeout=3000)
    assert ran.returncode == 0, ran.stderr[-4000:]
    figures = json.loads(ran.stdout)
    assert figures["examples"] >= examples
    assert figures["bytes"] < 2**30
