"""Shares of an epoch's time: from numbers, and of runs in which one thing is slow."""

import contextlib
import sys
import time

import pytest

import pld.images
import pld.loading
import train_student.loop.trainer
from pld.loading.view_decoder import CpuViewDecoder
from tests.making import student_settings
from tests.train_student.runs import metrics, train_world
from train_student.config import TrainConfig
from train_student.data.teacher_signal import LiveTeacher, StoredTeacher
from train_student.data.view_tables import ViewTables
from train_student.loop.checkpoint import Checkpoints
from train_student.loop.epoch_times import PARTS, EpochTimes, to_shares
from train_student.loop.learner import Learner
from train_student.run.train import train


def test_shares_from_numbers():
    seconds = {"all": 100.0, "waiting": 30.0, "drawing": 10.0, "reading": 3.0, "decoding": 12.0, "cutting": 5.0}
    seconds |= {"joining": 1.0, "moving": 2.0, "saving": 3.0, "validating": 14.0}
    shares = to_shares(seconds)
    # 20 s of waiting, as 3 : 12 : 5; the loaders' seconds are several processes'.
    assert shares == pytest.approx(
        {"reading": 0.13, "decoding": 0.12, "cutting": 0.05, "joining": 0.01, "moving": 0.02, "stepping": 0.5,
         "saving": 0.03, "validating": 0.14})  # fmt: skip
    assert to_shares({**seconds, "teacher": 25.0})["teacher"] == pytest.approx(0.25)
    assert to_shares({**seconds, "teacher": 25.0})["stepping"] == pytest.approx(0.25)
    assert list(shares) == list(PARTS)


def test_shares_of_hardly_anything():
    assert sum(to_shares({}).values()) == 0
    assert to_shares({"all": 2.0})["stepping"] == 1
    assert to_shares({"all": 2.0, "waiting": 1.0})["reading"] == 0.5  # and loaders have not finished any image


def test_an_interrupted_epoch_is_counted_on():
    first, second = EpochTimes(), EpochTimes()
    with first.counting("joining"):
        time.sleep(0.05)
    second.go_on(first.state())
    second.begin(pld.loading.LoadTimes())
    assert second.state()["joining"] == first.state()["joining"] >= 0.05
    assert second.state()["all"] >= 0.05
    assert second.end_epoch()["time/joining"] > 0.5
    assert second.end_epoch()["time/joining"] == 0


def slow_down(monkeypatch, place, name, seconds):
    function = getattr(place, name)

    def slow(*arguments, **named):
        time.sleep(seconds)
        return function(*arguments, **named)

    monkeypatch.setattr(place, name, slow)


VIEW_DECODER = sys.modules[CpuViewDecoder.__module__]
SLOW = {
    "reading": (pld.images.Source, "read", 0.01),
    "decoding": (VIEW_DECODER, "decode_row", 0.01),
    "cutting": (VIEW_DECODER, "apply_view", 0.01),
    "joining": (StoredTeacher, "__call__", 0.5),
    "joining, a view": (ViewTables, "_load_view", 3.0),
    "teacher": (LiveTeacher, "__call__", 1.0),
    "stepping": (Learner, "_batch_loss", 1.0),
    "saving": (Checkpoints, "save", 3.0),
    "validating": (train_student.loop.trainer, "evaluate", 3.0),
}
OTHERS = [
    *(("reading", 0), ("decoding", 0), ("decoding", 1), ("cutting", 0), ("cutting", 1)),
    *(("joining, a view", 0), ("teacher", 0), ("stepping", 0)),
]


@pytest.mark.parametrize(
    ("name", "workers"),
    [
        *(("reading", 1), ("joining", 0), ("saving", 0), ("validating", 0)),
        *(pytest.param(name, workers, marks=pytest.mark.long) for name, workers in OTHERS),
    ],
)
def test_what_is_slow_has_the_largest_share(world, tmp_path, monkeypatch, console, name, workers):
    """A few steps of an epoch."""
    part = name.partition(",")[0]
    slow_down(monkeypatch, *SLOW[name])
    more = {"online_teacher": True, "teacher": f"local-dir:{world / 'teacher'}"} if part == "teacher" else {}
    validates = {} if part in ("validating", "saving") else {"val_data": "none"}
    train_world(world, tmp_path / "run", epochs=1, workers=workers, tracker="none", batch_size=64, **validates, **more)
    (line,) = metrics(tmp_path / "run")
    shares = {key.removeprefix("time/"): value for key, value in line.items() if key.startswith("time/")}
    assert max(shares, key=shares.get) == part
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert set(shares) == {*PARTS} | ({"teacher"} if part == "teacher" else set())
    printed = console.readouterr().out
    assert f"; time: {part} " in printed
    assert (f"run: {part} took " in printed) == (part not in ("stepping", "validating"))


def without(state, *names):
    return {key: value for key, value in state.items() if key not in names}


@pytest.mark.parametrize("is_old", [False, True])
def test_an_interrupted_run_has_the_times_and_parts_of_its_whole_epoch(world, tmp_path, monkeypatch, is_old):
    """Stopped after slow steps; a checkpoint of before there were times and parts is gone on from as well."""
    settings = {"epochs": 1, "tracker": "none", "val_data": "none", "batch_size": 64}
    step, save = Learner.step, Checkpoints.save

    def stop(self, batches, steps_done):
        if steps_done == 2:
            raise KeyboardInterrupt
        return step(self, batches, steps_done)

    def save_as_before(self, number, state):
        state = without(state, "times") | {"meter": without(state["meter"], "label_losses")}
        return save(self, number, state)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        slow_down(patch, StoredTeacher, "__call__", 1.0)
        patch.setattr(Learner, "step", stop)
        if is_old:
            patch.setattr(Checkpoints, "save", save_as_before)
        train_world(world, tmp_path / "run", checkpoint_steps=2, **settings)
    train(TrainConfig.from_flat(**student_settings(world, tmp_path / "run", **settings, resume="auto")))
    (line,) = metrics(tmp_path / "run")
    if is_old:
        assert "loss/label" not in line
        assert 0 < line["time/stepping"] < 1
        return
    train_world(world, tmp_path / "whole", **settings)
    (whole,) = metrics(tmp_path / "whole")
    for name in ("loss", "loss/label", "loss/teacher"):
        assert line[name] == whole[name]
    assert line["loss/label"] + line["loss/teacher"] == pytest.approx(line["loss"])
    assert line["time/joining"] > 2 * whole["time/joining"]
