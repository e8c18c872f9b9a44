"""Images that cannot be decoded, in training: the run stops at them, or goes on without them and counts them."""

import re

import pytest
import torch

from pld.config import run
from pld.errors import DataError
from pld.images import open_source
from tests.making import student_settings
from tests.processes import torchrun
from tests.train_student.broken import BAD_ROWS, SETTINGS, asked_for, by_hand, damage, num_bad, val_key
from tests.train_student.runs import as_arguments, assert_same_weights, metrics, train_world
from train_student.config import TrainConfig
from train_student.loop.epoch_times import PARTS
from train_student.loop.learner import Learner
from train_student.run.train import main as train_main
from train_student.run.train import train

CPU = torch.device("cpu")


@pytest.fixture
def trained(monkeypatch):
    """The rows of the micro-batches that are trained; their labels and logits are these rows'."""
    seen, loss = [], Learner._batch_loss

    def seeing(self, batch):
        seen.append(batch.request.rows.tolist())
        signal = self.signal(batch, CPU)
        if signal is not None:
            assert signal.labels.tolist() == batch.labels.tolist()
        return loss(self, batch)

    monkeypatch.setattr(Learner, "_batch_loss", seeing)
    return seen


def test_training_goes_on_and_counts(world, tmp_path, data, damaged, trained, console):
    """The same whatever the number of workers; nothing of a bad image is trained."""
    for name, workers in (("here", 0), ("workers", 2)):
        settings = student_settings(world, tmp_path / name, data=str(data), accumulate=2, workers=workers, **SETTINGS)
        train(TrainConfig.from_flat(**settings, on_bad_image="skip"))
    asked = [rows for epoch in (0, 1) for rows in asked_for(damaged, epoch, micro_batches=2)]
    assert trained == 2 * [by_hand(rows, BAD_ROWS) for rows in asked]
    found = [num_bad(damaged, epoch) for epoch in (0, 1)]
    assert min(found) >= 4
    for name in ("here", "workers"):
        assert [line["bad_images"] for line in metrics(tmp_path / name)] == found
        assert [line["val_bad_images"] for line in metrics(tmp_path / name)] == [0, 0]
    assert_same_weights(tmp_path / "workers", tmp_path / "here")
    printed = console.readouterr().out
    told = (
        r"here: epoch 1: others took the places of images that cannot be decoded: (\d) \(((?:train-\d+, ){3})\.\.\.\)$"
    )
    num, names = re.search(told, printed, re.MULTILINE).groups()
    assert int(num) == found[0]
    assert set(names.split(", ")[:3]) < set(map(damaged.key, BAD_ROWS))


def test_ordinary_runs_say_nothing_of_it(world, tmp_path, console):
    train_world(world, tmp_path / "run", epochs=1)
    assert set(metrics(tmp_path / "run")[0]) == {
        *("epoch", "lr", "seconds", "loss", "images_per_second", "wait_share", "top1", "top5", "nll", "ece"),
        *("loss/label", "loss/teacher", *(f"time/{part}" for part in PARTS)),
    }
    assert "decoded" not in console.readouterr().out


def test_a_micro_batch_of_bad_images_is_an_error(world, tmp_path, data):
    rows = asked_for(open_source(str(data)), 0, micro_batches=4)[6]
    keys = [open_source(str(data)).key(row) for row in rows]
    damage(data, *keys)
    more = {"data": str(data), "store": None, "loss": "ce", "epochs": 1, "tracker": "none", "on_bad_image": "skip"}
    with pytest.raises(DataError, match=f"sample {keys[0]} cannot be decoded, and none of the 4 images of its micro-"):
        train_world(world, tmp_path / "run", **more, accumulate=4)
    train_world(world, tmp_path / "whole", **more)
    assert metrics(tmp_path / "whole")[0]["bad_images"] == 4


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("key", ["train-0130", val_key()])
def test_else_the_run_stops_and_says_how_to_go_on(world, tmp_path, data, console, key, workers):
    damage(data, key)
    settings = student_settings(world, tmp_path / "run", data=str(data), epochs=1, workers=workers)
    assert run(train_main, as_arguments(settings)) == 2
    error = console.readouterr().err
    assert re.search(rf"sample {key}: cannot be decoded.*replace the image, or .*: --on_bad_image skip$", error, re.M)
    assert "Traceback" not in error
    # And that is taken on.
    assert run(train_main, as_arguments({**settings, "resume": "auto", "on_bad_image": "skip"})) == 0
    assert metrics(tmp_path / "run")[-1]["bad_images" if "train" in key else "val_bad_images"] == 1


def test_an_interrupted_epoch_is_counted_whole(world, tmp_path, data, damaged, monkeypatch):
    """What was met before the checkpoint, and what comes behind it."""
    places = [place for place, rows in enumerate(asked_for(damaged, 0)) if {*rows} & {*BAD_ROWS}]
    stop_at = places[1] + 1
    assert places[0] < stop_at <= places[-1]
    settings = student_settings(world, tmp_path / "run", data=str(data), epochs=1, on_bad_image="skip", tracker="none")
    step = Learner.step

    def stop(self, batches, steps_done):
        if steps_done == stop_at:
            raise KeyboardInterrupt
        return step(self, batches, steps_done)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(TrainConfig.from_flat(**settings, checkpoint_steps=stop_at))
    train(TrainConfig.from_flat(**settings, resume="auto"))
    assert [line["bad_images"] for line in metrics(tmp_path / "run")] == [num_bad(damaged, 0)]


def test_two_processes(world, tmp_path, data, damaged):
    """One of the two has all validation images, and not the one that writes checkpoints."""
    damage(data, val_key())
    settings = student_settings(world, tmp_path / "two", data=str(data), tracker="none", epochs=1, accumulate=2)
    argv = ["-m", "train_student", *as_arguments({**settings, "on_bad_image": "skip"})]
    printed = torchrun(2, argv, cwd=tmp_path).stdout
    (found,) = metrics(tmp_path / "two")
    assert (found["bad_images"], found["val_bad_images"]) == (num_bad(damaged, 0, world_size=2), 1)
    (named,) = re.findall(rf"cannot be decoded: {found['bad_images']} \((train.*)\)", printed)
    assert 1 <= named.count("train-") <= 3
