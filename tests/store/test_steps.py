"""Stores whose views have steps and are mixed: all that is done with stores, and that mixing takes no bytes."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld.cli.main import main
from pld.errors import FingerprintMismatchError
from pld.join.match import stored_policy
from pld.report.card import dataset_card
from pld.report.table import views_text
from pld.store import ViewIdentity, open_store, open_stores
from pld.store.maintain.convert import convert_store
from pld.store.maintain.verify import verify_store
from pld.store.objects.local_storage import LocalStorage
from pld.views import CutMix, Mixup, RandomResizedCrop, policy_to_json
from tests.store.test_unlabelled import Other
from tests.store.world import World, tree

FORMATS = ("zarr", "webdataset")


def described(*steps, **parameters):
    """A policy as a store holds it."""
    policy = policy_to_json(RandomResizedCrop(steps=steps, **parameters))
    policy.pop("seed")
    return policy


MIXED = described(Mixup(alpha=0.8), CutMix(alpha=1.0))
DRAWN = (
    "random_resized_crop(flip=True, ratio=[0.75, 1.3333333333333333], scale=[0.08, 1.0]), then mixup(alpha=0.8), "
    "then cutmix(alpha=1.0); partners=shard; seed=7"
)


@pytest.fixture(scope="module", params=FORMATS)
def written(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("mixed") / "store"
    World(format=request.param, policy=MIXED).write(root, 5, block_views=3)
    return root


def problems(root):
    return list(verify_store(LocalStorage(root), lambda *_: None))


def pld(monkeypatch, *argv):
    monkeypatch.setattr("sys.argv", ["pld", *map(str, argv)])
    return main()


def test_the_policy_comes_back(written):
    store = open_store(str(written))
    assert problems(written) == []
    assert stored_policy(store) == RandomResizedCrop(steps=(Mixup(alpha=0.8), CutMix(alpha=1.0)), seed=7)
    assert len(store.load_view(4)) == store.num_samples == 17


def test_mixing_takes_no_bytes(written, tmp_path):
    """Partner, share and box are recomputed: parts differ from an unmixed store's in the fingerprint alone."""
    world = World(format=open_store(str(written)).manifest.format, policy=described())
    world.write(tmp_path, 5, block_views=3)
    mixed, plain = (
        sorted((name.rpartition("/")[0], len(data)) for name, data in tree(root).items() if name != "store.json")
        for root in (written, tmp_path)
    )
    assert mixed == plain
    mixed, plain = (open_store(str(root)) for root in (written, tmp_path))
    assert mixed.manifest.identity.fingerprint != plain.manifest.identity.fingerprint
    assert mixed.gradient_error_bound() == plain.gradient_error_bound()


def test_conversion_there_and_back_is_the_same_bytes(written, tmp_path):
    here = open_store(str(written)).manifest.format
    there = next(name for name in FORMATS if name != here)
    convert_store(str(written), str(tmp_path / "there"), there, lambda _: None)
    assert problems(tmp_path / "there") == []
    assert stored_policy(open_store(str(tmp_path / "there"))) == stored_policy(open_store(str(written)))
    convert_store(str(tmp_path / "there"), str(tmp_path / "back"), here, lambda _: None)
    assert tree(tmp_path / "back") == tree(written)


def test_pushed_and_pulled_it_is_the_same_bytes(written, tmp_path, monkeypatch, cache_folder):
    assert pld(monkeypatch, "push", written, (tmp_path / "far").as_uri()) == 0
    assert pld(monkeypatch, "pull", (tmp_path / "far").as_uri(), tmp_path / "near") == 0
    for name, data in tree(written).items():
        assert tree(tmp_path / "near")[name] == data


def test_inspecting_it_says_how_views_are_drawn(written, monkeypatch, capsys):
    assert pld(monkeypatch, "inspect", written) == 0
    assert DRAWN in capsys.readouterr().out
    assert DRAWN in dataset_card(open_store(str(written)), "other", "URL").replace("\\", "")


@given(
    st.fixed_dictionaries(
        {"name": st.text(max_size=5)},
        optional={
            "steps": st.none() | st.integers() | st.lists(st.integers() | st.dictionaries(st.text(), st.text())),
            "partners": st.integers() | st.text(max_size=5),
        },
    )
)
def test_how_views_are_drawn_is_told_of_any_policy(policy):
    """To the store a policy is any JSON: of a version to come, or a stranger's."""
    text = views_text(ViewIdentity(policy=policy, seed=3, drawing_version=1))
    assert text.endswith("seed=3")
    assert all(str(value) in text for name, value in policy.items() if name in ("name", "partners"))


@pytest.mark.parametrize("combine", ["average", "pick"])
def test_two_teachers_of_the_same_mixed_views_are_one_signal(tmp_path, combine):
    world = World(policy=MIXED)
    world.write(tmp_path / "a", 2)
    Other(policy=MIXED).write(tmp_path / "b", 2)
    group = open_stores([str(tmp_path / "a"), str(tmp_path / "b")], combine)
    topk = group.load_view(1)[group.rows(world.keys)]
    topk.validate(world.num_classes)
    assert topk.labels.tolist() == world.labels.tolist()


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (described(), r"views\.policy\.partners 'shard', not None; views\.policy\.steps \[\{'alpha': 0\.8, 'name'"),
        (described(Mixup(alpha=0.2), CutMix(alpha=1.0)), r"has views\.policy\.steps\[0\]\.alpha 0\.8, not 0\.2\."),
        (described(CutMix(alpha=1.0)), r"has views\.policy\.steps \[\{.*not \[\{'alpha': 1\.0, 'name': 'cutmix'\}\]"),
        (MIXED | {"partners": "dataset"}, r"has views\.policy\.partners 'shard', not 'dataset'\."),
    ],
)
def test_stores_of_different_policies_are_refused_together(tmp_path, other, shown):
    World(policy=MIXED).write(tmp_path / "a", 1)
    Other(policy=other).write(tmp_path / "b", 1)
    with pytest.raises(FingerprintMismatchError, match=shown):
        open_stores([str(tmp_path / "a"), str(tmp_path / "b")])


def test_views_are_added_under_the_same_steps_alone(tmp_path):
    World(policy=MIXED).write(tmp_path, 2, block_views=2)
    changed = described(Mixup(alpha=0.4), CutMix(alpha=1.0))
    with pytest.raises(FingerprintMismatchError, match=r"steps\[0\]\.alpha"):
        World(policy=changed).open_writer(tmp_path)
    World(policy=MIXED).write(tmp_path, 4, block_views=2)
    assert open_store(str(tmp_path)).num_views == 4


def test_stores_without_steps_are_what_they_were(tmp_path):
    """The JSON of a policy without steps has no field more."""
    assert described() == {
        "name": "random_resized_crop",
        "scale": [0.08, 1.0],
        "ratio": [3 / 4, 4 / 3],
        "flip": True,
    }
    identity = dataclasses.replace(World().identity, views=ViewIdentity(policy=described(), seed=7, drawing_version=1))
    assert set(identity.to_json()["views"]["policy"]) == {"name", "scale", "ratio", "flip"}
