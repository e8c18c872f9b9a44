"""A run in a folder that runs on a bucket are compared with, and how."""

import json
import uuid

import pytest
from safetensors.torch import load
from torch.testing import assert_close

from pld.config import run
from pld.errors import PLDError
from pld.store.objects.fsspec_storage import FsspecStorage
from tests.making import STUDENT, student_settings
from tests.train_student.runs import as_arguments, metrics, train_world
from train_student.loop.learner import Learner
from train_student.run.train import main as train_main

# Two epochs of 16 steps; dropout and an average of weights: everything that a state must hold.
SETTINGS = {
    "checkpoint_steps": 4,
    "ema_decay": 0.9,
    "tracker": "none",
    "model_kwargs": {**STUDENT, "drop_rate": 0.1},
}


class StopError(PLDError):
    pass


@pytest.fixture(scope="package")
def undisturbed(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train_world(world, folder, **SETTINGS)
    return folder


@pytest.fixture
def url(cache_folder):
    """Of a run; in this process's memory, which stands for a bucket where nothing is asked of the network."""
    return f"memory://{uuid.uuid4().hex}/one"


@pytest.fixture
def storage(url):
    return FsspecStorage(url)


@pytest.fixture
def settings(world, url):
    """Of a run on the bucket that goes on if it can."""
    return student_settings(world, url, resume="auto", **SETTINGS)


@pytest.fixture
def training(capsys):
    """Runs the command; returns the exit status and what was printed."""

    def train(settings):
        status = run(train_main, as_arguments(settings))
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return train


@pytest.fixture
def before_step(monkeypatch):
    """Has something done before the step of a number, which is counted from 0; `StopError` to stop there."""
    step = Learner.step

    def register(actions):
        def act(self, batches, steps_done):
            if action := actions.get(steps_done):
                action()
            return step(self, batches, steps_done)

        monkeypatch.setattr("train_student.loop.learner.Learner.step", act)

    return register


@pytest.fixture
def assert_finished(storage, undisturbed):
    """Checks that a finished run on the bucket has the files, weights and metrics of the undisturbed one."""

    def check(steps=(28, 32)):
        ours = load(storage.read("model/model.safetensors", 2**24))
        for name, tensor in load((undisturbed / "model" / "model.safetensors").read_bytes()).items():
            assert_close(ours[name], tensor, atol=0, rtol=0, msg=name)
        lines = [json.loads(line) for line in storage.read("metrics.jsonl", 2**20).splitlines()]
        for mine, other in zip(lines, metrics(undisturbed), strict=True):
            for name in ("epoch", "loss", "top1", "nll", "lr"):
                assert mine[name] == other[name]
        checkpoints = [f"checkpoints/step-0000000{step}" for step in steps]
        assert [name for name in storage.list("") if not name.startswith("lock/")] == [
            *(f"{name}.{ending}" for name in checkpoints for ending in ("json", "safetensors")),
            *("config.yaml", "metrics.jsonl", "model/config.json", "model/model.safetensors", "run.json"),
        ]

    return check
