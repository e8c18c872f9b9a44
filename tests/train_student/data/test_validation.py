"""What a run is validated on: named, counted, and never what it trains on."""

import re
import shutil

import numpy as np
import pytest

from pld.images import open_source
from tests.end_to_end.commands import facts, metrics, training
from tests.making import jpeg, shard_members, write_tar
from train_student.data.validation import open_validation
from train_student.option_groups import ValidationOptions

CE = ("--loss", "ce", "--num_classes", 12)


@pytest.fixture
def shards(tmp_path):
    """One tar of training images, one of others."""
    write_tar(tmp_path / "d" / "train-0000.tar", shard_members(0, 40))
    write_tar(tmp_path / "d" / "val-0000.tar", shard_members(0, 20, "val"))
    return tmp_path / "d"


def test_it_is_named_and_counted(shards, tmp_path, console):
    assert training(shards, tmp_path / "r", *CE) == 0
    assert f"validation: 20 images, {shards}, val" in console.readouterr().out
    assert facts(tmp_path / "r")["validation"] == f"{shards}, val"
    assert facts(tmp_path / "r")["num_val"] == 20
    assert training(shards, tmp_path / "dry", *CE, "--dry-run") == 0
    assert re.search(rf"validation +20 images, {re.escape(str(shards))}, val", console.readouterr().out)


@pytest.mark.parametrize("where", ["a pattern", "an unsplit folder", "the same tars as val_data", "some of them"])
def test_images_that_are_trained_on_are_refused(shards, tmp_path, console, where):
    pattern, more, num = shards / "train-{0000..0000}.tar", (), 40
    if where == "an unsplit folder":
        pattern = tmp_path / "plain"
        pattern.mkdir()
        shutil.copy(shards / "train-0000.tar", pattern / "shard.tar")
    elif where == "the same tars as val_data":
        more = ("--val_data", shutil.copytree(shards, tmp_path / "copy") / "train-0000.tar")
    elif where == "some of them":
        some = shard_members(0, 3) | shard_members(50, 17)
        more, num = ("--val_data", write_tar(tmp_path / "some.tar", some)), 3
    assert training(pattern, tmp_path / "r", *CE, *more) == 2
    error = console.readouterr().err
    assert re.search(
        rf"validation: {num} of the \d+ images of .* are training images too, the first: train-0000", error
    )
    for way in ("--val_data", "--val_share 0.02", "--val_data none"):
        assert way in error
    assert not (tmp_path / "r").exists()


def test_numbered_images_of_two_splits_are_not_the_same(tmp_path):
    """Images that are numbered anew in each split have the same keys there."""
    for split, first in (("train", 0), ("val", 50)):
        for label, name in enumerate(("ant", "bee")):
            for i in range(8):
                path = tmp_path / "d" / split / name / f"{i}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(first + 10 * label + i))
    assert training(tmp_path / "d", tmp_path / "r", "--loss", "ce") == 0
    assert (facts(tmp_path / "r")["num_train"], facts(tmp_path / "r")["num_val"]) == (16, 16)
    shutil.copy(tmp_path / "d" / "train" / "ant" / "3.jpg", tmp_path / "d" / "val" / "ant" / "3.jpg")
    assert training(tmp_path / "d", tmp_path / "r2", "--loss", "ce") == 2


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_share_is_held_out_by_key(shards, tmp_path, console, share):
    pattern = shards / "train-0000.tar"
    assert training(pattern, tmp_path / "r", *CE, "--val_share", share) == 0
    found = facts(tmp_path / "r")
    assert found["num_train"] + found["num_val"] == 40
    assert found["skipped_images"] == 0
    assert f"{100 * share:g} % of the training images, held out by key" in console.readouterr().out
    assert "top1" in metrics(tmp_path / "r")[-1]
    options = ValidationOptions(val_share=share)
    whole = open_source(str(pattern))
    train, val, _ = open_validation(options, whole, str(pattern), None)
    assert not set(train.keys.tolist()) & set(val.keys.tolist())
    # The same ones in any subset.
    part = whole.subset(np.arange(40) % 3 > 0)
    _, part_val, _ = open_validation(options, part, str(pattern), None)
    assert set(part_val.keys.tolist()) == set(val.keys.tolist()) & set(part.keys.tolist())


def test_going_without(shards, tmp_path, console):
    assert training(shards / "train-0000.tar", tmp_path / "r", *CE, "--val_data", "none") == 0
    assert "validation: none, as --val_data none says" in console.readouterr().out
    assert (facts(tmp_path / "r")["validation"], facts(tmp_path / "r")["num_val"]) == ("none", 0)
    assert "top1" not in metrics(tmp_path / "r")[-1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--val_share", 1.5), "--val_share 1.5: wanted a number between 0 and 1"),
        (("--val_share", 1e-9), "--val_share 1e-09: holds out 0 of 40 images"),
        (("--val_share", 0.1, "--val_data", "x"), "give one of them"),
        (("--val_data", "none", "--val_store", "x"), "there is no validation with --val_data none"),
        (("--val_split", "test"), r"validation: .*no split 'test'.*found train, val(?s:.*)--val_share 0.02"),
    ],
)
def test_what_does_not_fit_together(shards, tmp_path, console, more, message):
    assert training(shards if "--val_split" in more else shards / "train-0000.tar", tmp_path / "r", *CE, *more) == 2
    assert re.search(message, console.readouterr().err)
