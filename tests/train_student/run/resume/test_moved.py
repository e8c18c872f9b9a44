"""Runs that go on where their data lies in another place: the same content is accepted, any other is named."""

import json
import shutil

import pytest

from pld.config import run
from tests.making import make_dataset, make_store, student_settings
from tests.train_student.runs import as_arguments, assert_same_weights, metrics
from train_student.config import TrainConfig
from train_student.run.train import main as train_main
from train_student.run.train import train

SETTINGS = {"checkpoint_steps": 8, "tracker": "none"}


def stopped(settings, monkeypatch):
    """Train an epoch of two."""

    def stop(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("train_student.loop.trainer.Trainer._end_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(TrainConfig.from_flat(**settings))
    return {**settings, "resume": "auto"}


@pytest.fixture
def place(world, tmp_path):
    """A copy of the test world that may be moved."""
    for name in ("data", "full"):
        shutil.copytree(world / name, tmp_path / "job1" / name)
    make_store(
        tmp_path / "job1", "val", teacher=f"local-dir:{world / 'teacher'}", views=1, policy="fixed", split="val", k=5
    )
    return tmp_path / "job1"


def at(place, run_folder, **settings):
    places = {"data": str(place / "data"), "store": str(place / "full"), "val_store": str(place / "val")}
    return student_settings(place, run_folder, **{**SETTINGS, **places, **settings})


def test_a_run_goes_on_in_another_place_as_if_nothing_had_been(place, tmp_path, monkeypatch):
    train(TrainConfig.from_flat(**at(place, tmp_path / "once")))
    stopped(at(place, tmp_path / "run"), monkeypatch)
    moved = place.rename(tmp_path / "job2")
    elsewhere = at(moved, tmp_path / "run", resume="auto", eval_every=2)
    train(TrainConfig.from_flat(**{**elsewhere, "data": f"{moved / 'data'}/", "val_data": str(moved / "data")}))
    assert_same_weights(tmp_path / "run", tmp_path / "once")
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2]


def test_micro_batches_may_change(place, tmp_path, monkeypatch):
    again = stopped(at(place, tmp_path / "run"), monkeypatch)
    train(TrainConfig.from_flat(**{**again, "accumulate": 2}))
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2]


def refused(settings, capsys):
    assert run(train_main, as_arguments(settings)) == 2
    return capsys.readouterr().err


def test_other_validation_images_are_refused(place, tmp_path, monkeypatch, capsys):
    again = stopped(at(place, tmp_path / "run", val_store=None), monkeypatch)
    other = tmp_path / "other"
    make_dataset(other, shard_sizes=(5,), num_val=20)
    error = refused({**again, "val_data": str(other)}, capsys)
    assert "the validation images' keys or labels (digest" in error
    assert "check --val_data" in error
    assert "digest" in refused({**again, "val_data": "none"}, capsys)


def test_another_teacher_of_the_validation_images_is_refused(place, tmp_path, monkeypatch, capsys):
    again = stopped(at(place, tmp_path / "run"), monkeypatch)
    assert "the logits of the validation images" in refused({**again, "val_store": None}, capsys)


def test_a_run_of_a_version_that_kept_no_digests_goes_on(place, tmp_path, monkeypatch):
    again = stopped(at(place, tmp_path / "run"), monkeypatch)
    path = tmp_path / "run" / "run.json"
    facts = json.loads(path.read_text())
    del facts["content"]
    path.write_text(json.dumps(facts))
    train(TrainConfig.from_flat(**again))
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2]
