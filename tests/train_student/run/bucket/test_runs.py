"""Runs on a bucket, in processes of their own: killed, gone on with on other machines, through a network that fails."""

import json
import os
import signal
import subprocess
import sys

import pytest
from safetensors.torch import load
from torch.testing import assert_close

from pld.store.objects.fsspec_storage import FsspecStorage
from tests.making import STUDENT, student_settings
from tests.object_store import FaultyProxy
from tests.processes import ROOT, environment, python, torchrun
from tests.train_student.runs import as_arguments, assert_same_weights, metrics
from train_student.run.bucket.checkpoints import BucketCheckpoints

EPOCHS = 3
# Dropout and an average of weights: everything that a state must hold.
SETTINGS = {
    "epochs": EPOCHS,
    "checkpoint_steps": 3,
    "ema_decay": 0.9,
    "tracker": "none",
    "model_kwargs": {**STUDENT, "drop_rate": 0.1},
    "resume": "auto",
}
TRAIN = ROOT / "train_student.py"


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    python(TRAIN, *as_arguments(student_settings(world, folder / "run", **SETTINGS)), cwd=folder)
    return folder / "run"


def files(storage):
    """What is there, but for the lock."""
    return [name for name in storage.list("") if not name.startswith("lock/")]


def assert_is(storage, run):
    """A finished run on a bucket has the files, weights and metrics of one in a folder."""
    ours = load(storage.read("model/model.safetensors", 2**24))
    for name, tensor in load((run / "model" / "model.safetensors").read_bytes()).items():
        assert_close(ours[name], tensor, atol=0, rtol=0, msg=name)
    lines = [json.loads(line) for line in storage.read("metrics.jsonl", 2**20).splitlines()]
    for mine, other in zip(lines, metrics(run), strict=True):
        for name in ("epoch", "loss", "top1", "nll", "lr"):
            assert mine[name] == other[name]
    checkpoints = [f"checkpoints/step-0000000{step}" for step in (45, 48)]
    assert files(storage) == [
        *(f"{name}.{ending}" for name in checkpoints for ending in ("json", "safetensors")),
        *("config.yaml", "metrics.jsonl", "model/config.json", "model/model.safetensors", "run.json"),
    ]


def test_killed_twice_behind_a_failing_network_it_is_bit_identical(world, undisturbed, bucket, object_store, tmp_path):
    """On another machine each time: one with an empty disk."""
    url = f"{bucket}/runs/one"
    storage = FsspecStorage(url)
    words = as_arguments(student_settings(world, url, **SETTINGS))
    with FaultyProxy(object_store.port, failing=0.1, cutting=0.05) as proxy:
        environments = [
            {**object_store.environment(proxy.port), "PLD_CACHE": str(tmp_path / f"machine-{number}")}
            for number in range(3)
        ]
        for number, env in enumerate(environments[:2]):
            before = BucketCheckpoints(storage, 1).steps()
            with subprocess.Popen([sys.executable, TRAIN, *words], env=environment(**env), start_new_session=True,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
                while len(set(BucketCheckpoints(storage, 1).steps()) - set(before)) < 1 + number:
                    assert process.poll() is None, process.stderr.read()
                os.killpg(process.pid, signal.SIGKILL)
        last = python(TRAIN, *words, cwd=tmp_path, env=environments[2])
    assert proxy.faults["cut"] > 0
    assert proxy.faults["dropped"] > 0
    assert f"{url}: goes on from step-" in last.stdout
    assert f"{url}: is written to {tmp_path}/machine-2/runs/one-" in last.stdout
    assert_is(storage, undisturbed)
    (folder,) = [path for path in (tmp_path / "machine-2" / "runs").iterdir() if path.is_dir()]
    assert_same_weights(folder, undisturbed)
