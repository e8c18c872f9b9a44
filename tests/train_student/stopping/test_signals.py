"""Runs that are asked to stop: under each launcher, by each signal, at each moment."""

import signal
import time

import pytest

from tests.train_student.runs import assert_same_weights, metrics
from tests.train_student.stopping.launched import (
    ALONE,
    LAUNCHERS,
    SIGNALS,
    checkpoints,
    go_on,
    launch,
    send,
)

long = pytest.mark.long
PACE = {"PACE": "0.03"}  # processes vote once a second
SHORT = [
    ("python", signal.SIGINT, "all"),  # its loader, too
    ("accelerate", signal.SIGTERM, "launcher"),
]
MATRIX = [
    (launcher, number, to) for launcher in LAUNCHERS for number in SIGNALS for to in ("launcher", "trainer", "all")
]
CASES = [*SHORT, *(pytest.param(*case, marks=long) for case in MATRIX if case not in SHORT)]


def shown_status(launcher, number, to):
    """What a shell is told: launchers turn a trainer's status into 1, and die themselves by what they do not handle."""
    if launcher == "python":
        return SIGNALS[number]
    if launcher == "accelerate":
        return 1 if to == "trainer" else 128 + number
    return 128 + number if number == signal.SIGUSR1 and to != "trainer" else 1


@pytest.mark.parametrize(("launcher", "number", "to"), CASES)
def test_it_saves_ends_and_goes_on_as_if_nothing_had_been(settings, undisturbed, tmp_path, launcher, number, to):
    """Bit for bit in one process."""
    alone = launcher in ALONE
    run = launch(launcher, tmp_path / "log", settings, hold="5", **({} if alone else PACE))
    send(run, number, to)
    status, printed = run.end()
    assert status == shown_status(launcher, number, to), printed
    step = checkpoints(tmp_path / "run")[-1]
    assert step == 5 if alone else 5 <= step < 48
    assert f"after step {step}, which is saved; go on with: " in printed
    went_on = go_on(printed, tmp_path)
    assert f"goes on from step-{step:09d}" in went_on.stdout
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2, 3]
    if alone:
        assert_same_weights(tmp_path / "run", undisturbed)


MOMENTS = {  # where it is held: what is printed, the steps that are saved
    "startup": ("nothing was trained since it started", []),
    "1": ("nothing was trained since it started", []),
    "validation": ("in the validation after epoch 1, which is saved", [16]),
    "saving": ("after step 16, which is saved", [16]),
    "view": ("after step 16, while it loaded a view, which is saved", [16]),
}


@pytest.mark.parametrize("moment", [each if each == "startup" else pytest.param(each, marks=long) for each in MOMENTS])
def test_it_stops_at_any_moment(settings, undisturbed, tmp_path, moment):
    """At once where nothing is lost, else after what it is doing."""
    said, steps = MOMENTS[moment]
    more = {"checkpoint_steps": 16, "val_data": "none"} if moment == "saving" else {}
    run = launch("python", tmp_path / "log", {**settings, **more}, hold=moment)
    send(run, signal.SIGTERM, "all")
    status, printed = run.end()
    assert (status, checkpoints(tmp_path / "run")) == (143, steps), printed
    assert said in printed
    assert "Traceback" not in printed
    go_on(printed, tmp_path)
    assert_same_weights(tmp_path / "run", undisturbed)


@long
@pytest.mark.parametrize("moment", ["startup", "1", "validation", "view"])
def test_two_processes_stop_at_any_moment(settings, tmp_path, moment):
    run = launch("torchrun", tmp_path / "log", settings, hold=moment, **PACE)
    send(run, signal.SIGTERM, "trainer")
    status, printed = run.end()
    assert status == 1
    go_on(printed, tmp_path)
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2, 3]


@long
@pytest.mark.parametrize("launcher", ["python", "torchrun"])
def test_a_second_ctrl_c_ends_at_once(settings, tmp_path, launcher):
    """The first one is heard where a step hangs; loader processes leave both alone, and are gone all the same."""
    run = launch(launcher, tmp_path / "log", settings, hold="hang")
    to = "launcher" if launcher == "torchrun" else "all"
    send(run, signal.SIGINT, to)
    time.sleep(0.7)  # what comes sooner is the same Ctrl-C, forwarded
    assert run.trainer.is_running()
    started = time.monotonic()
    send(run, signal.SIGINT, to)
    status, printed = run.end()
    assert time.monotonic() - started < 5
    assert status == (130 if launcher == "python" else 1), printed
    assert checkpoints(tmp_path / "run") == []


@long
def test_as_the_first_process_of_a_container(settings, undisturbed, tmp_path):
    """The kernel gives it no signals but those that it handles."""
    run = launch("python", tmp_path / "log", settings, hold="5", wrapper=["unshare", "--pid", "--fork"])
    run.family[1].send_signal(signal.SIGTERM)
    status, printed = run.end()
    assert status == 143, printed
    go_on(printed, tmp_path)
    assert_same_weights(tmp_path / "run", undisturbed)
