"""Several stores read as one: which belong together, who serves what, and what a batch is."""

import dataclasses

import jaxtyping
import numpy as np
import pytest
import torch

from pld.errors import FingerprintMismatchError, NotCachedError
from pld.store import open_store, open_stores
from pld.store.read.averaging import average
from pld.store.read.group import picks
from tests.store.world import World


def other_teacher(world, **changes):
    """The same samples and views seen by another teacher, and what else is changed in the identity."""

    class Other(type(world)):
        @property
        def identity(self):
            identity = super().identity
            teacher = dataclasses.replace(identity.teacher, name="other")
            changed = {part: dataclasses.replace(getattr(identity, part), **to) for part, to in changes.items()}
            return dataclasses.replace(identity, teacher=teacher, **changed)

        @property
        def labels(self):
            return world.labels

    return Other(sizes=world.sizes, num_classes=world.num_classes, k=world.k, seed=world.seed + 1)


WORLD = World(sizes=(30, 20, 25))


@pytest.fixture(scope="module")
def urls(tmp_path_factory):
    """Two teachers' stores of 3 and 2 views."""
    root = tmp_path_factory.mktemp("stores")
    WORLD.write(root / "a", 3)
    other_teacher(WORLD).write(root / "b", 2)
    return [str(root / "a"), str(root / "b")]


def fields_of(topk):
    return {name: value for name, value in vars(topk).items() if isinstance(value, torch.Tensor)}


def same(got, wanted):
    assert fields_of(got).keys() == fields_of(wanted).keys()
    assert all(torch.equal(value, fields_of(wanted)[name]) for name, value in fields_of(got).items())
    assert (got.temperatures, got.logprob_error) == (wanted.temperatures, wanted.logprob_error)


def test_one_store_is_itself(urls):
    group, store = open_stores(urls[:1]), open_store(urls[0])
    assert group.fingerprint == store.manifest.identity.fingerprint
    assert (group.num_views, group.k, group.temperatures) == (3, 4, store.manifest.identity.codec.temperatures)
    rows = np.array([3, 1, 70])
    same(group.load_view(2)[group.rows(store.keys)[:, rows]], store.load_view(2)[rows])


def test_an_average_is_that_of_each_samples_signals_wherever_the_stores_have_them(urls, tmp_path):
    reordered = other_teacher(World(sizes=(30, 20, 25)))
    shards = [reordered.shards[i] for i in (2, 0, 1)]
    type(reordered).shards = property(lambda self: shards)
    reordered.write(tmp_path / "c", 2)
    keys = WORLD.keys[np.random.default_rng(0).permutation(75)]
    for second in (urls[1], str(tmp_path / "c")):
        group = open_stores([urls[0], second])
        assert (group.num_views, group.temperatures) == (2, (1.0,))
        got = group.load_view(1)[group.rows(keys)]
        stores = [open_store(url) for url in urls]
        wanted = average([store.load_view(1)[store.rows(keys)] for store in stores], 20)
        same(got, wanted)
        got.validate(20)


@pytest.mark.parametrize("combine", ["average", "pick"])
@pytest.mark.parametrize("kind", [list, tuple, np.ndarray.tolist, torch.from_numpy, lambda rows: rows.astype(np.int32)])
def test_rows_may_be_whole_numbers_in_any_rows(urls, combine, kind):
    group = open_stores(urls, combine)
    table, rows = group.load_view(0), group.rows(WORLD.keys[[7, 70, 0]])
    same(table[kind(rows)], table[rows])


@pytest.mark.parametrize("rows", [[3, 1], range(3, 0, -2), torch.tensor([3, 1]), [[3, 1]], np.array([[3, 1]])])
def test_of_one_store_its_own_rows_will_do(urls, rows):
    same(open_stores(urls[:1]).load_view(0)[rows], open_store(urls[0]).load_view(0)[[3, 1]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 1], r"found shape \[2\], wanted \[2, B\], rows in each of 2 stores; StoreGroup.rows\(keys\) gives them"),
        ([[0, 1]], r"found shape \[1, 2\], wanted \[2, B\]"),
        (np.zeros((3, 4), np.int64), r"found shape \[3, 4\], wanted \[2, B\]"),
        ([[0, 1], [2]], "found list, wanted whole numbers"),
        (np.zeros((2, 4)), "found ndarray of float64, wanted whole numbers"),
        (torch.ones(2, 4) > 0, "found Tensor of torch.bool, wanted whole numbers"),
    ],
)
@pytest.mark.parametrize("combine", ["average", "pick"])
def test_rows_that_are_not_those_of_each_store_are_refused(urls, combine, rows, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is outside of tests
    with pytest.raises(TypeError, match=message):
        open_stores(urls, combine).load_view(0)[rows]


@pytest.mark.parametrize(
    ("given", "combine", "message"),
    [("both", "mean", "mean"), ("one", "pick", "wanted a list"), ("none", "average", "a list")],
)
def test_what_does_not_name_stores_and_a_way_is_refused(urls, given, combine, message):
    with pytest.raises(Exception, match=message):
        open_stores({"both": urls, "one": urls[0], "none": []}[given], combine)


def test_each_pick_is_one_teachers_signal_whatever_the_batch(urls):
    group, stores = open_stores(urls, "pick", seed=5), [open_store(url) for url in urls]
    keys = WORLD.keys
    chosen = picks(keys.tolist(), 1, 2, 5)
    assert set(chosen.tolist()) == {0, 1}
    table, rows = group.load_view(1), group.rows(keys)
    singles = [store.load_view(1) for store in stores]
    for batch in (np.arange(75), np.array([70, 3, 3, 0]), np.array([9])):
        got = table[rows[:, batch]]
        for place, row in enumerate(batch.tolist()):
            member = chosen[row]
            wanted = singles[member][rows[member, [row]]]
            assert all(torch.equal(v[place], fields_of(wanted)[n][0]) for n, v in fields_of(got).items())
    assert got.temperatures == singles[0].codec.temperatures


def test_picks_are_even_independent_and_pinned():
    keys = [f"n{i:08d}".encode() for i in range(4000)]
    drawn = np.stack([picks(keys, view, 3, seed) for view, seed in ((0, 0), (1, 0), (0, 1))])
    assert np.abs(np.stack([(drawn == t).mean(1) for t in range(3)]) - 1 / 3).max() < 0.03
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs((drawn[a] == drawn[b]).mean() - 1 / 3) < 0.03
    assert np.array_equal(picks(keys[:9][::-1], 1, 3, 0), drawn[1, :9][::-1])
    # What a run picked stays what it picked.
    assert ["".join(map(str, row)) for row in drawn[:, :12].tolist()] == [
        "011122110120",
        "101120112000",
        "212010201121",
    ]


def test_a_smaller_k_and_fewer_temperatures_are_common_to_all(urls, tmp_path):
    narrow = dataclasses.replace(other_teacher(WORLD, codec={"temperatures": (1.0, 2.0), "grid": 1 / 16}), k=3)
    narrow.write(tmp_path / "n", 2)
    together = [urls[0], str(tmp_path / "n")]
    for combine, temperatures in (("pick", (1.0, 2.0)), ("average", (1.0,))):
        group = open_stores(together, combine)
        assert (group.k, group.temperatures) == (3, temperatures)
        got = group.load_view(0)[group.rows(WORLD.keys)]
        assert (got.k, got.temperatures, got.logprob_error) == (3, temperatures, 0.51 / 16)
        got.validate(20)


def test_all_classes_keep_every_temperature(tmp_path):
    whole = dataclasses.replace(WORLD, k=20)
    whole.write(tmp_path / "a", 1)
    other_teacher(whole).write(tmp_path / "b", 1)
    group = open_stores([str(tmp_path / "a"), str(tmp_path / "b")])
    assert group.temperatures == WORLD.identity.codec.temperatures
    got = group.load_view(0)[group.rows(WORLD.keys)]
    wanted = torch.stack(
        [torch.cat([w.logits(s.name, 0) for s in w.shards]).softmax(1) for w in (whole, other_teacher(whole))]
    ).mean(0)
    dense = torch.zeros(75, 20).scatter(1, got.classes, got.logprobs.exp())
    assert float((dense.log() - wanted.log()).abs().max()) <= got.logprob_error + 1e-5


def test_the_fingerprint_says_who_and_how(urls):
    told = {
        open_stores(stores, combine, seed).fingerprint
        for stores in (urls, urls[::-1], urls[:1])
        for combine in ("average", "pick")
        for seed in (0, 1)
    }
    # of one store: 1; of two in either order: averaged 1, picked one for each seed
    assert len(told) == 1 + 2 * (1 + 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": {"seed": 8}}, "views.seed 7, not 8"),
        ({"views": {"drawing_version": 2}}, "views.drawing_version 1, not 2"),
        ({"views": {"decoder": "nvjpeg"}}, "views.decoder None, not 'nvjpeg'"),
        ({"views": {"policy": {"name": "fixed"}}}, "views.policy.name 'random_resized_crop', not 'fixed'"),
        ({"dataset": {"class_names": tuple(map(str, range(20)))}}, None),
    ],
)
def test_stores_of_other_views_are_refused_by_the_field(urls, tmp_path, changes, message):
    other_teacher(WORLD, **changes).write(tmp_path / "x", 1)
    if message is None:  # one states its classes, the other does not
        assert open_stores([urls[0], str(tmp_path / "x")]).class_names == tuple(map(str, range(20)))
        return
    with pytest.raises(FingerprintMismatchError, match=message) as caught:
        open_stores([urls[0], str(tmp_path / "x")])
    assert all(str(caught.value).count(url) for url in (urls[0], str(tmp_path / "x")))


def test_stores_of_other_samples_classes_or_label_spaces_are_refused(urls, tmp_path):
    World(sizes=(30, 20, 26)).write(tmp_path / "samples", 1)
    World(sizes=(30, 20, 25), num_classes=21).write(tmp_path / "classes", 1)
    names = tuple(map(str, range(20)))
    for name, told in (("named", names), ("otherwise", names[::-1])):
        other_teacher(WORLD, dataset={"class_names": told}).write(tmp_path / name, 1)
    for pair, message in (
        ((urls[0], "samples"), "dataset.num_samples 75, not 76"),
        ((urls[0], "classes"), "num_classes 20, not 21"),
        (("named", "otherwise"), "class_names"),
    ):
        with pytest.raises(FingerprintMismatchError, match=message):
            open_stores([str(tmp_path / url) for url in pair])


def test_what_one_of_them_lacks_is_said(urls):
    group = open_stores(urls)
    with pytest.raises(NotCachedError, match=r"b: view 2: 2 views are complete"):
        group.load_view(2)
    with pytest.raises(NotCachedError, match="nowhere"):
        group.rows(["nowhere"])
