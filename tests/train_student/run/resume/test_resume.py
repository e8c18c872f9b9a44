"""Runs that are killed, preempted and gone on with, in processes of their own."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from pld.config import run
from tests.making import NUM_CLASSES, STUDENT, make_store, student_settings
from tests.processes import ROOT, environment, python, torchrun
from tests.train_student.runs import as_arguments, assert_same_weights, metrics
from train_student.config import TrainConfig
from train_student.loop.learner import Learner
from train_student.run.train import main as train_main
from train_student.run.train import train

EPOCHS, STEPS = 3, 16  # 260 images in batches of 16
# Dropout and an average of weights: everything that a state must hold.
SETTINGS = {
    "epochs": EPOCHS,
    "checkpoint_steps": 3,
    "ema_decay": 0.9,
    "tracker": "none",
    "opt": "lamb",  # whose norms sum over whole tensors, in the order of their memory
    "workers": 1,
    "model_kwargs": {**STUDENT, "drop_rate": 0.1},
}


def command(log, settings):
    return ["-m", "tests.train_student.recording", str(log), *as_arguments(settings)]


def consumed(*logs, together=1):
    """Step -> (views, its global batch's keys in order); a step that was done again must be the same again.

    Rows are dealt to the processes `together` at a time.
    """
    steps = {}
    for log in logs:
        shares = {}
        for line in log.read_text().splitlines():
            step, views, keys, rank, world = json.loads(line)
            shares.setdefault(step, {})[rank] = (tuple(views), keys, world)
        for step, by_rank in shares.items():
            ((views, world),) = {(views, world) for views, _, world in by_rank.values()}
            if len(by_rank) < world:
                continue  # killed between two processes' lines
            parts = [np.array(by_rank[rank][1]).reshape(-1, together) for rank in range(world)]
            found = (views, np.stack(parts, axis=1).reshape(-1).tolist())
            assert steps.setdefault(step, found) == found
    return steps


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def kill_after(process, log, wanted):
    """SIGKILL to the process and all below it, each in a session of its own, once the log holds the wanted lines."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if len(lines(log)) >= wanted:
            break
        time.sleep(0.005)
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family[1:], timeout=60)
    process.wait()


def started(world_size, log, settings):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world_size}"] * (world_size > 1)
    argv = [sys.executable, *launcher, *command(log, settings)]
    return subprocess.Popen(
        argv, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    settings = student_settings(world, folder / "run", **SETTINGS)
    python(*command(folder / "log", settings), cwd=folder)
    steps = consumed(folder / "log")
    assert sorted(steps) == list(range(1, EPOCHS * STEPS + 1))
    for epoch in range(EPOCHS):
        keys = [key for step in range(epoch * STEPS + 1, (epoch + 1) * STEPS + 1) for key in steps[step][1]]
        assert len(set(keys)) == len(keys) == STEPS * 16
    return folder / "run", steps


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_killed_and_resumed_it_is_bit_identical(world, undisturbed, tmp_path, kills):
    run_folder, steps = undisturbed
    settings = student_settings(world, tmp_path / "run", resume="auto", **SETTINGS)
    rng = random.Random(kills)
    logs = []
    for number in range(kills):
        logs.append(tmp_path / f"log-{number}")
        kill_after(started(1, logs[-1], settings), logs[-1], rng.randint(1 if number else 5, 9))
    logs.append(tmp_path / "last")
    python(*command(logs[-1], settings), cwd=tmp_path)
    written = [log for log in logs if log.exists()]
    assert sum(min(consumed(log)) > 1 for log in written) >= kills / 2  # these went on from a checkpoint
    assert consumed(*written) == steps
    assert_same_weights(tmp_path / "run", run_folder)
    ours, theirs = metrics(tmp_path / "run"), metrics(run_folder)
    for mine, other in zip(ours, theirs, strict=True):
        for name in ("epoch", "loss", "top1", "nll", "lr"):
            assert mine[name] == other[name]


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.long)])
def test_resumed_on_another_number_of_processes_the_batches_are_the_same(world, undisturbed, tmp_path, kills):
    """One process, two, one, ...; batch norm sees half the batch each, what was consumed is still the same."""
    _, steps = undisturbed
    settings = student_settings(world, tmp_path / "run", resume="auto", **SETTINGS)
    rng = random.Random(kills)
    logs = [tmp_path / f"log-{number}" for number in range(kills + 1)]
    for number, log in enumerate(logs[:-1]):
        processes = 1 + number % 2
        kill_after(started(processes, log, settings), log, processes * rng.randint(1 if number else 5, 6))
    if kills % 2:
        torchrun(2, command(logs[-1], settings), cwd=tmp_path)
    else:
        python(*command(logs[-1], settings), cwd=tmp_path)
    written = [log for log in logs if log.exists()]
    assert consumed(*written) == steps
    assert sum(min(consumed(log), default=0) > 1 for log in written) >= kills / 2  # these went on from a checkpoint
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2, 3]


@pytest.mark.long
def test_sigterm_saves_and_exits(world, undisturbed, tmp_path):
    run_folder, steps = undisturbed
    settings = {**student_settings(world, tmp_path / "run", resume="auto", **SETTINGS), "checkpoint_steps": None}
    argv = [sys.executable, *command(tmp_path / "log", settings)]
    process = subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)  # fmt: skip
    deadline = time.monotonic() + 60
    while len(lines(tmp_path / "log")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)  # loader workers get it too, as from SLURM
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM after step" in err
    assert "Traceback" not in err
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1
    python(*command(tmp_path / "rest", settings), cwd=tmp_path)
    assert not set(consumed(tmp_path / "log")) & set(consumed(tmp_path / "rest"))
    assert consumed(tmp_path / "log", tmp_path / "rest") == steps
    assert_same_weights(tmp_path / "run", run_folder)


class StopError(Exception):
    pass


@pytest.fixture
def interrupted(world, tmp_path, monkeypatch):
    """A run's settings, stopped in this process in its second epoch, with checkpoints at the first's end and later."""
    settings = student_settings(world, tmp_path / "run", **SETTINGS)
    step = Learner.step
    with monkeypatch.context() as patch:

        def stop(self, batches, steps_done):
            if steps_done == 19:
                raise StopError
            return step(self, batches, steps_done)

        patch.setattr("train_student.loop.learner.Learner.step", stop)
        with pytest.raises(StopError):
            train(TrainConfig.from_flat(**settings))
    names = [path.name for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]
    assert names == ["step-000000016.safetensors", "step-000000018.safetensors"]
    return {**settings, "resume": "auto"}


def test_views_added_meanwhile_change_nothing(world, tmp_path, monkeypatch):
    make_store(world, str(tmp_path / "store"), k=NUM_CLASSES, views=2)
    settings = student_settings(world, tmp_path / "run", **{**SETTINGS, "store": str(tmp_path / "store")})
    step = Learner.step

    def stop(self, batches, steps_done):
        if steps_done == 25:
            raise StopError
        seen.extend(batches[0].request.view_indexes)
        return step(self, batches, steps_done)

    seen = []
    monkeypatch.setattr("train_student.loop.learner.Learner.step", stop)
    with pytest.raises(StopError):
        train(TrainConfig.from_flat(**settings))
    make_store(world, str(tmp_path / "store"), k=NUM_CLASSES, views=4)
    monkeypatch.setattr(
        "train_student.loop.learner.Learner.step", lambda *a: seen.extend(a[1][0].request.view_indexes) or step(*a)
    )
    train(TrainConfig.from_flat(**settings, resume="auto"))
    assert seen == [0] * STEPS + [1] * 9 + [1] * 8 + [0] * STEPS  # from step 24 on again; view 0 comes third


def test_finished_runs_say_so(world, tmp_path, console):
    settings = student_settings(world, tmp_path / "run", epochs=1, tracker="none")
    train(TrainConfig.from_flat(**settings))
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    train(TrainConfig.from_flat(**settings, resume="auto"))
    assert "finished already" in console.readouterr().out
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def refused(settings, capsys):
    assert run(train_main, as_arguments(settings)) == 2
    return capsys.readouterr().err


def test_other_settings_are_refused_and_named(interrupted, capsys):
    error = refused({**interrupted, "lr": 3e-3, "epochs": 9}, capsys)
    assert "was begun with epochs 3, now 9; lr 0.001, now 0.003" in error
    assert run(train_main, as_arguments({**interrupted, "workers": 0, "checkpoint_steps": 100})) == 0


def test_a_run_folder_of_flat_options_goes_on(world, interrupted, tmp_path, capsys):
    """Its config.yaml is one that the version before groups wrote."""
    written = (ROOT / "tests" / "golden" / "run-config-flat.yaml").read_text()
    assert "\nlr: 0.001\n" in written
    (tmp_path / "run" / "config.yaml").write_text(
        written.replace("WORLD", str(world)).replace("opt: adamw", "opt: lamb")
    )
    assert "was begun with lr 0.001, now 0.003" in refused({**interrupted, "lr": 3e-3}, capsys)
    assert run(train_main, as_arguments(interrupted)) == 0
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2, 3]


def test_another_store_is_refused(world, interrupted, tmp_path, capsys):
    make_store(world, str(tmp_path / "other"), views=3, k=NUM_CLASSES, view_seed=7)
    other = {**interrupted, "store": str(tmp_path / "other")}
    assert "the teacher's logits (digest" in refused(other, capsys)
    facts = tmp_path / "run" / "run.json"  # of a version that kept no digests there: the checkpoint has one
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "content": None}))
    assert "was trained from a store with fingerprint" in refused(other, capsys)


def test_a_checkpoint_of_another_model_is_refused(world, interrupted, tmp_path, capsys):
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("name: resnet18", "name: resnet26"))
    assert "is of another model or optimizer" in refused({**interrupted, "model": "resnet26"}, capsys)


def test_a_damaged_checkpoint_is_passed_over(interrupted, tmp_path, capsys):
    newest = tmp_path / "run" / "checkpoints" / "step-000000018.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert run(train_main, as_arguments(interrupted)) == 0
    assert "goes on from step-000000016.safetensors, epoch 1, which is trained" in capsys.readouterr().out
