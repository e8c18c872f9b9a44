"""`--policy` and `--views_per_image` through the command: what they train, and what is refused."""

import json
import re
import shutil

import pytest

from pld.config import run
from pld.images import open_source
from pld.images.sources.glyphs import write_glyphs
from tests.making import NUM_CLASSES, make_dataset, make_store, shard_members, student_settings, write_tar
from tests.train_student.broken import damage
from tests.train_student.runs import as_arguments, metrics, train_world
from train_student.run.train import main as train_main

MIXED = "mixup-0.8,cutmix-1.0"


@pytest.fixture
def refused(world, mixed, tmp_path, capsys):
    """The error of a run that is refused before the first step."""

    def message(**settings):
        settings = student_settings(world, tmp_path / "run", **{"store": str(mixed), **settings})
        assert run(train_main, as_arguments(settings)) == 2
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err + printed.out
        assert not (tmp_path / "run").exists()
        return printed.err

    return message


def facts(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_policy_without_a_store(world, tmp_path, console):
    train_world(world, tmp_path / "run", store=None, loss="ce", policy="deit", seed=5, epochs=1)
    policy = facts(tmp_path / "run")["policy"]
    assert [step["name"] for step in policy["steps"]] == ["rand_augment", "random_erasing", "mixup", "cutmix"]
    assert policy["seed"] == 5
    assert "views with rand_augment, random_erasing, mixup, cutmix" in console.readouterr().out


@pytest.mark.parametrize("policy", [None, MIXED, "rrc,flip,mixup-0.8,cutmix-1.0"])
def test_a_store_says_its_policy_and_the_option_may_repeat_it(world, mixed, tmp_path, policy):
    train_world(world, tmp_path / "run", store=str(mixed), policy=policy, epochs=1)
    assert facts(tmp_path / "run")["policy"]["partners"] == "shard"


@pytest.mark.parametrize("policy", ["light", "mixup-0.4,cutmix-1.0", "rrc,mixup-0.8,cutmix-1.0"])
def test_another_policy_than_the_stores_is_refused(refused, policy):
    error = refused(policy=policy)
    assert re.search(rf"--policy {policy}: .*mixed holds logits of other views.*Leave --policy out", error)
    assert '"alpha": 0.8' in error


def test_an_unknown_step_offers_the_nearest(refused):
    assert "cutmix" in refused(policy="cutmx-1.0")
    assert "cutmix" in refused(policy="cutmx-1.0", store=None, loss="ce")


def test_glyphs_are_not_mirrored(tmp_path, refused):
    write_glyphs(tmp_path / "glyphs", num_train=188, num_val=94)
    settings = {"store": None, "loss": "ce", "data": str(tmp_path / "glyphs")}
    assert "does not mirror its images" in refused(policy="rrc,flip", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views_per_image": 8}, r"--views_per_image 8: .*mixed holds 4 views.*give at most 4, or .*VIEWS=8"),
        ({"views_per_image": 4, "views": 2}, r"--views_per_image 4: --views 2, and .*give at most 2"),
        ({"views_per_image": 3}, r"--batch_size 16: 1 processes of 1 micro-batches of 3 views an image do not divide"),
        ({"views_per_image": 0}, r"--views_per_image 0: wanted at least 1"),
        ({"views_per_image": 2, "store": None, "loss": "ce", "policy": "fixed"}, r"the policy is one fixed view"),
        ({"val_share": 0.1}, r"--val_share 0.1: .*mixed mixes the images that would be held out.*--val_data none"),
    ],
)
def test_what_cannot_be_had_is_refused(refused, settings, message):
    assert re.search(message, refused(**settings))


def test_held_out_images_are_mixed_with_nothing(world, tmp_path, monkeypatch):
    """Without a store the others are mixed among themselves."""
    seen = []
    monkeypatch.setattr("train_student.loop.learner.Learner.step", recorder(seen))
    settings = {"store": None, "loss": "ce", "policy": MIXED, "val_share": 0.2, "epochs": 2}
    train_world(world, tmp_path / "run", **settings)
    held_out = 260 - facts(tmp_path / "run")["num_train"]
    assert held_out > 30
    assert {int(row) for request in seen for row in request.mixing.partners.ravel()} <= set(range(260 - held_out))


def recorder(seen):
    from train_student.loop.learner import Learner

    step = Learner.step

    def recorded(self, batches, steps_done):
        seen.extend(batch.request for batch in batches)
        return step(self, batches, steps_done)

    return recorded


def test_images_without_their_partners_are_refused(world, refused, tmp_path):
    """A part of a shard; and with images that the store does not have beside it."""
    write_tar(tmp_path / "part" / "train-0000.tar", shard_members(0, 40))
    shutil.copy(world / "data" / "val-0000.tar", tmp_path / "part")
    lacks = r"lacks 20 images that its own are mixed with in .*mixed, the first: train-0040; give all images of the"
    assert re.search(lacks, refused(data=str(tmp_path / "part")))
    write_tar(tmp_path / "part" / "train-0001.tar", shard_members(400, 9))
    assert re.search(lacks, refused(data=str(tmp_path / "part"), missing="skip"))


def test_images_that_the_store_lacks_can_be_left_out(world, mixed, tmp_path):
    more = make_dataset(tmp_path / "more", shard_sizes=(60, 45, 70, 52, 40), num_val=5)
    train_world(world, tmp_path / "run", store=str(mixed), data=str(more), missing="skip", epochs=1)
    assert facts(tmp_path / "run")["num_train"] == 260


def test_several_stores_mix_alike_or_are_refused(world, tmp_path, refused):
    part = str(world / "data" / "train-0000.tar")
    settings = {"views": 2, "policy": MIXED}
    one, same = (str(make_store(world, str(tmp_path / str(k)), data=part, k=k, **settings)) for k in (5, 7))
    run_of = {"data": part, "val_data": "none", "epochs": 1}
    train_world(world, tmp_path / "both", store=[one, same], views_per_image=2, **run_of)
    for number in range(2):
        write_tar(tmp_path / "two" / f"train-{number:04d}.tar", shard_members(30 * number, 30))
    other = make_store(world, str(tmp_path / "other"), data=str(tmp_path / "two"), k=5, **settings)
    assert "mixes other images with each other than" in refused(store=[one, str(other)], **run_of)


def test_more_shards_or_fewer_change_nothing_that_is_mixed(world, mixed, tmp_path, monkeypatch):
    """The store's pairs are found again by key in images that lie in other shards."""
    write_tar(tmp_path / "one" / "train-0000.tar", shard_members(0, 260))
    shutil.copy(world / "data" / "val-0000.tar", tmp_path / "one")
    pairs = []
    for number, data in enumerate((world / "data", tmp_path / "one")):
        seen, source = [], open_source(str(data))
        with monkeypatch.context() as patch:
            patch.setattr("train_student.loop.learner.Learner.step", recorder(seen))
            train_world(world, tmp_path / str(number), store=str(mixed), data=str(data), epochs=1, batch_size=20)
        pairs.append({
            (source.key(int(row)), source.key(int(other)), float(share))
            for request in seen
            for row, other, share in zip(request.rows, request.mixing.partners[:, 0], request.mixing.shares[:, 0],
                                         strict=True)
        })  # fmt: skip
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) == 260


def test_unlabelled_images_are_mixed(world, tmp_path):
    part = {"data": str(world / "data" / "train-0000.tar")}
    store = make_store(world, str(tmp_path / "store"), views=2, k=5, policy=MIXED, unlabelled=True, **part)
    part |= {"val_data": "none", "epochs": 1}
    train_world(world, tmp_path / "run", store=str(store), views_per_image=2, **part)
    live = {"online_teacher": True, "teacher": f"local-dir:{world / 'teacher'}", "unlabelled": True, "store": None}
    train_world(world, tmp_path / "live", policy=MIXED, **live, **part)
    assert metrics(tmp_path / "run")[0]["loss"] > 0


@pytest.mark.parametrize(
    "loss", ["dkd", *(pytest.param(loss, marks=pytest.mark.long) for loss in ("ce", "kd", "dist", "listmle", "pld"))]
)
def test_every_loss_trains_on_mixed_images(world, mixed, tmp_path, loss):
    data = str(world / "data" / "train-0000.tar")
    train_world(world, tmp_path / loss, loss=loss, epochs=1, store=str(mixed), data=data, val_data="none", workers=0)
    assert metrics(tmp_path / loss)[-1]["loss"] > 0


def test_an_image_counts_as_often_as_it_has_views(world, tmp_path):
    """260 images in batches of 16 views, 8 images."""
    train_world(world, tmp_path / "run", epochs=1, views_per_image=2)
    found = facts(tmp_path / "run")
    assert found["dropped_each_epoch"] == 260 % 8
    assert found["settings"]["views_per_image"] == 2
    train_world(world, tmp_path / "plain", epochs=1)
    assert not {"views_per_image", "policy"} & set(facts(tmp_path / "plain")["settings"])  # as runs of old


def test_partners_that_break_later_are_replaced_and_counted(world, mixed, tmp_path, data):
    damage(data, "train-0130")
    settings = {"store": str(mixed), "data": str(data), "epochs": 1, "on_bad_image": "skip"}
    train_world(world, tmp_path / "run", **settings)
    # Itself, and what it is mixed with; less if one is in the last partial batch.
    assert 1 <= metrics(tmp_path / "run")[0]["bad_images"] <= 3


def test_a_dry_run_plans_views(world, mixed, tmp_path, capsys):
    settings = student_settings(world, tmp_path / "run", store=str(mixed), views_per_image=4, batch_size=32)
    assert run(train_main, [*as_arguments(settings), "--dry_run", "true"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"epochs +2, of 32 steps each", printed)
    assert re.search(r"batch +32 views of 8 images", printed)
    assert re.search(r"views +with mixup, cutmix", printed)
    assert f"{NUM_CLASSES} classes; 4 dropped" in printed
    # On a CPU 16 views at once: 65 steps in the first epoch, 2 of them to warm up.
    assert re.search(r"measured +63 steps of 16 views of 4 real images in \S+ seconds, \S+ views a second", printed)
    assert re.search(r"with 16 views a step, since a CPU trains slowly; the run takes 32", printed)
    settings = student_settings(world, tmp_path / "run", data="", store=None, policy="nonsense", dry_run=True)
    assert run(train_main, as_arguments(settings)) == 2
    assert "unknown step" in capsys.readouterr().err
