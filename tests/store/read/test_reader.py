"""open_store: rows, views, smaller k; only the bytes that are needed; damage found and named."""

import dataclasses
import pickle
import tracemalloc

import jaxtyping
import numpy as np
import pytest
import torch

from pld.errors import CorruptStoreError, NotCachedError
from pld.store import Commit, Store, open_store
from pld.store.documents.layout import read_layout
from pld.store.documents.manifest import read_manifest
from pld.store.format.schema import SAMPLE_ARRAYS, VIEW_ARRAYS
from pld.store.format.typed_json import parse_document
from pld.store.objects.local_storage import LocalStorage
from tests.store.format.test_quantise import weights
from tests.store.world import World


@pytest.fixture(scope="module", params=["zarr", "webdataset"])
def world(request):
    return World(format=request.param)


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    world.write(root, 5, block_views=3)
    return root


@pytest.fixture
def store(finished):
    return open_store(str(finished))


def same(got, want):
    assert torch.equal(got.classes, want.classes)
    assert torch.equal(got.labels, want.labels)
    assert float((got.logprobs - want.logprobs).abs().max()) <= got.logprob_error
    assert float((got.label_logprob - want.label_logprob).abs().max()) <= got.logprob_error
    for column, temperature in enumerate(got.temperatures):
        error = (got.tail_logmass - want.tail_logmass)[:, column].abs().max()
        assert float(error) <= got.logprob_error / temperature


def test_every_view_of_every_shard_comes_back(world, store):
    assert (store.num_views, store.num_samples, store.skipped) == (5, 17, ())
    for view in range(5):
        table = store.load_view(view)
        assert (table.view, len(table)) == (view, 17)
        for shard in world.shards:
            rows = world.rows(shard.name)
            same(table[np.arange(rows.start, rows.stop)], world.signal(shard.name, view))


def test_rows_are_the_manifests_shards_in_order(world, store):
    assert store.keys.tolist() == world.keys.tolist()
    assert store.labels.tolist() == world.labels.tolist()
    assert store.labels.dtype == np.int64
    order = np.random.default_rng(0).permutation(17)
    assert store.rows(world.keys[order]).tolist() == order.tolist()
    assert store.rows(["n00003_é", "n00001_é"]).tolist() == [3, 1]
    assert store.load_view(0).rows(world.keys[order]).tolist() == order.tolist()
    assert store.rows([]).tolist() == []


def test_missing_keys_are_named_and_counted(store):
    with pytest.raises(NotCachedError, match="4 of 5 samples are not in the store, the first: a, b, n00003;"):
        store.rows(["a", "b", "n00003", "n00003_é", "zzzzzzzzzzzzzzzzzzzzzzz"])


def test_what_is_not_cached_is_said(store, tmp_path):
    for view in (5, -1):
        with pytest.raises(NotCachedError, match="5 views are complete"):
            store.load_view(view)
    for k in (5, 0):
        with pytest.raises(NotCachedError, match="wanted 1 to 4"):
            store.load_view(0, k=k)
    with pytest.raises(NotCachedError, match="there is no store"):
        open_store(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("missing", [-1, 17, 10**6])
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_a_row_below_0_or_above_the_last_is_no_row(store, kind, missing):
    with pytest.raises(IndexError, match=f"row {missing}: rows count from 0, and this view has 17 of them"):
        store.load_view(0)[kind([0, missing])]


@pytest.mark.parametrize(
    "rows",
    [
        [3, 1],
        (3, 1),
        range(3, 0, -2),
        [np.int64(3), np.int32(1)],
        (torch.tensor(3), torch.tensor(1)),
        np.array([3, 1], np.int32),
        np.array([3, 1], np.uint64),
        np.array([3, 0, 1])[::2],
        torch.tensor([3, 1]),
        torch.tensor([3, 1], dtype=torch.uint8),
    ],
    ids=repr,
)
def test_rows_may_be_whole_numbers_in_any_row(store, rows):
    table = store.load_view(0)
    got, wanted = table[rows], table[np.array([3, 1])]
    for name in ("classes", "logprobs", "labels", "label_logprob", "tail_logmass"):
        assert torch.equal(getattr(got, name), getattr(wanted, name))


@pytest.mark.parametrize("rows", [[], (), range(0), np.array([], np.int64), torch.tensor([], dtype=torch.int64)])
def test_no_rows_are_an_empty_batch(store, rows):
    assert store.load_view(0)[rows].classes.shape == (0, 4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([0.0, 1.0]), "found ndarray of float64, wanted whole numbers: a list, a tuple, a range, an array"),
        ([0.0, 1.0], "found list, wanted whole numbers"),
        (torch.tensor([0.0, 1.0]), "found Tensor of torch.float32, wanted whole numbers"),
        (torch.zeros(2, dtype=torch.bfloat16), "found Tensor of torch.bfloat16, wanted whole numbers"),
        (np.zeros(0), "found ndarray of float64, wanted whole numbers"),
        (np.ones(17, bool), r"found ndarray of bool, wanted .*; np.flatnonzero\(mask\) gives those of a mask"),
        ([True, False], r"found list, wanted .*np.flatnonzero\(mask\)"),
        (torch.tensor([True]), r"found Tensor of torch.bool, .*np.flatnonzero\(mask\)"),
        (["n00003_é"], r"found list, wanted .*; table\[table.rows\(keys\)\] finds them by their keys"),
        (None, "found NoneType, wanted whole numbers"),
        ([[0, 1], [2]], "found list, wanted whole numbers"),
        (slice(0, 2), "found slice, wanted whole numbers"),
        (3, r"found shape \[\], wanted \[B\]; for one row table\[\[row\]\]"),
        (np.zeros((1, 2), np.int64), r"found shape \[1, 2\], wanted \[B\]"),
    ],
    ids=repr,
)
def test_what_is_no_row_numbers_is_said(store, monkeypatch, rows, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is outside of tests
    with pytest.raises(TypeError, match="rows: " + message):
        store.load_view(0)[rows]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_smaller_k_is_what_a_store_of_that_k_would_hold(world, store, k):
    table = store.load_view(1, k=k)
    assert table.codec.k == k
    for shard in world.shards:
        rows = world.rows(shard.name)
        got, want = table[np.arange(rows.start, rows.stop)], world.signal(shard.name, 1, k=k)
        same(got, want)
        for temperature in got.temperatures:
            moved = (weights(got, temperature) - weights(want, temperature)).abs().sum(1)
            assert float(moved.max()) <= 2 * np.tanh(got.logprob_error / (2 * temperature))


def test_a_store_that_is_not_complete_says_so(world, tmp_path):
    writer = world.open_writer(tmp_path)
    parts = writer.missing_parts(4, block_views=2)
    world.write_part(writer, parts[0])
    store = open_store(str(tmp_path))
    assert store.num_views == 0
    assert store.stats.num_rows == 10
    with pytest.raises(NotCachedError, match="not complete yet"):
        _ = store.keys
    for part in parts[1:4]:
        world.write_part(writer, part)
    assert open_store(str(tmp_path)).num_views == 2


def test_the_stats_are_those_of_what_is_stored(world, store):
    tables = [store.load_view(view)[np.arange(17)] for view in range(5)]
    tail = torch.cat([table.tail_at(1.0) for table in tables]).double().exp()
    correct = torch.cat([table.classes[:, 0] == table.labels for table in tables]).double().mean()
    stats = store.stats
    assert stats.num_rows == 85
    assert stats.accuracy == pytest.approx(float(correct))
    assert stats.mean_tail_mass == pytest.approx(float(tail.mean()))
    assert stats.max_logprob == float(max(table.logprobs.max() for table in tables))
    quantile = float(torch.quantile(tail, 0.95, interpolation="higher"))
    assert quantile <= stats.tail_mass_quantile(0.95) <= quantile * 2**0.25
    mean, high = store.gradient_error_bound()
    rounding = 4 * np.tanh(tables[0].logprob_error / 2)
    assert mean == pytest.approx(2 * float(tail.mean()) + rounding)
    assert high >= 2 * quantile + rounding


class Recording(LocalStorage):
    """A storage that remembers which ranges were read."""

    def __init__(self, root):
        super().__init__(root)
        self.ranges = []

    def read_range(self, name, offset, num_bytes, check=None):
        self.ranges.append((name, num_bytes))
        return super().read_range(name, offset, num_bytes, check)


def test_one_view_is_one_range_of_each_part_and_no_more_bytes_than_its_chunks(finished):
    storage = Recording(finished)
    manifest = read_manifest(storage)
    store = Store(storage, manifest, read_layout(storage, manifest))
    _ = store.labels
    storage.ranges.clear()
    store.load_view(1)
    assert len({name for name, _ in storage.ranges}) == len(storage.ranges) == 3
    whole = sum(path.stat().st_size for path in (finished / "parts/v000-002").iterdir())
    assert sum(num_bytes for _, num_bytes in storage.ranges) < whole / 3


def test_a_table_needs_little_more_memory_than_its_integers(tmp_path, monkeypatch):
    monkeypatch.setattr("pld.store.read.reader._LOCAL_THREADS", 2)  # of 40 parts; 8 are of an ImageNet's 1,024
    world = World(sizes=(1000,) * 40, num_classes=100, k=20)
    world.write(tmp_path, 1)
    store = open_store(str(tmp_path))
    tracemalloc.start()
    table = store.load_view(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table) == 40_000
    assert peak < 1.3 * 40_000 * (4 * 20 + 2 + 2 * 5)


def test_a_table_travels_to_workers(store, world):
    table = pickle.loads(pickle.dumps(store.load_view(2)))  # noqa: S301
    same(table[np.arange(5)], world.signal("train-0000", 2))
    assert table.rows(world.keys[7:8]).tolist() == [7]


def damaged(finished, tmp_path, name, change):
    """A copy of the store with one object's bytes changed (or gone)."""
    for path in finished.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(finished)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (path,) = tmp_path.glob(name)
    data = change(path.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)
    return path


def use(root):
    store = open_store(str(root))
    _ = store.keys, store.stats
    return [store.load_view(view) for view in range(5)]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        *[
            (f"{name}.json", kept)
            for name in ("store", "blocks/v000", "commits/v000-002/train-0001")
            for kept in (-1, 9, 0)
        ],
        *[("parts/v003-004/train-0002-*", kept) for kept in (1500, 0)],
    ],
)
def test_what_was_cut_is_found_and_named(finished, tmp_path, name, kept):
    path = damaged(finished, tmp_path, name, lambda data: data[:kept])
    with pytest.raises(CorruptStoreError) as caught:
        use(tmp_path)
    assert path.name in str(caught.value)


def test_any_flipped_byte_of_a_chunk_is_found_and_named_before_it_is_decoded(finished, tmp_path):
    commit = parse_document(Commit, (finished / "commits/v000-002/train-0001.json").read_bytes(), "commit")
    arrays = [(name, chunk) for view in commit.views for name, chunk in zip(VIEW_ARRAYS, view, strict=False)]
    for name, chunk in [*arrays, *zip(SAMPLE_ARRAYS, commit.samples, strict=True)]:
        position = chunk.offset + chunk.num_bytes // 2

        def flip(data, position=position):
            return data[:position] + bytes([data[position] ^ 64]) + data[position + 1 :]

        damaged(finished, tmp_path, commit.part_name, flip)
        with pytest.raises(CorruptStoreError, match=f"{commit.part}: .*{name}[./].*: other bytes"):
            use(tmp_path)


@pytest.mark.parametrize("name", ["commits/v000-002/train-0001.json", "parts/v000-002/train-0001-*"])
def test_a_lost_object_of_a_sealed_block_is_found_and_named(finished, tmp_path, name):
    path = damaged(finished, tmp_path, name, lambda _: None)
    with pytest.raises(CorruptStoreError) as caught:
        use(tmp_path)
    assert path.name in str(caught.value)
    if "commits" in name:
        (tmp_path / "seals/v000-002.json").unlink()
        with pytest.raises(NotCachedError):
            use(tmp_path)


def test_a_commit_of_another_store_or_place_is_found(finished, tmp_path, world):
    other = dataclasses.replace(world, seed=5)
    other.write(tmp_path / "other", 5, block_views=3)
    name = "commits/v000-002/train-0001.json"
    stranger = (tmp_path / "other" / name).read_bytes()
    neighbour = (finished / "commits/v003-004/train-0001.json").read_bytes()
    for data in (stranger, neighbour):
        damaged(finished, tmp_path / "copy", name, lambda _, data=data: data)
        with pytest.raises(CorruptStoreError, match="another place"):
            use(tmp_path / "copy")
