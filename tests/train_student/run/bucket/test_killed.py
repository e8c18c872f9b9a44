"""Runs on a bucket, in processes of their own: killed, and gone on with on other machines, through a bad network."""

import os
import signal
import subprocess
import sys

import pytest

from tests.object_store import FaultyProxy
from tests.processes import ROOT, environment, python, torchrun
from tests.train_student.runs import as_arguments, assert_same_weights
from tests.train_student.stopping.launched import go_on, launch, send
from train_student.run.bucket.checkpoints import BucketCheckpoints

TRAIN = ROOT / "train_student.py"


@pytest.fixture
def url(bucket):
    return f"{bucket}/runs/one"


def kill_after(storage, checkpoints, argv, env):
    """SIGKILL to a command and all below it once it has pushed so many checkpoints."""
    before = set(BucketCheckpoints(storage, 1).steps())
    with subprocess.Popen([sys.executable, *argv], env=environment(**env), start_new_session=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        while len(set(BucketCheckpoints(storage, 1).steps()) - before) < checkpoints:
            assert process.poll() is None, process.stderr.read()
        os.killpg(process.pid, signal.SIGKILL)


def working_folder(machine):
    """The run's on a machine, by its cache folder."""
    (folder,) = (path for path in (machine / "runs").iterdir() if path.is_dir())
    return folder


@pytest.mark.long
def test_killed_twice_behind_a_bad_network_it_is_bit_identical(
    settings, url, storage, object_store, tmp_path, undisturbed, assert_finished
):
    """Each time on another machine: one with an empty disk."""
    argv = [TRAIN, *as_arguments({**settings, "checkpoint_steps": 8})]
    with FaultyProxy(object_store.port, failing=0.1, cutting=0.05) as proxy:
        machines = [tmp_path / f"machine-{number}" for number in range(3)]
        environments = [{**object_store.environment(proxy.port), "PLD_CACHE": str(path)} for path in machines]
        for number in range(2):
            kill_after(storage, 1 + number, argv, environments[number])
        last = python(*argv, cwd=tmp_path, env=environments[2])
    assert proxy.faults["cut"] > 0
    assert sum(proxy.faults[fault] for fault in ("error", "dropped", "unanswered")) > 0
    assert f"{url}: is written to {working_folder(machines[2])} first" in last.stdout
    assert f"{url}: goes on from step-" in last.stdout
    assert_finished(steps=(24, 32))
    assert_same_weights(working_folder(machines[2]), undisturbed)


@pytest.mark.long
def test_stopped_it_has_pushed_what_it_trained(settings, storage, object_store, tmp_path, undisturbed, assert_finished):
    """And what it says goes on, on a machine with an empty disk."""
    env = {**object_store.environment(), "PLD_CACHE": str(tmp_path / "old")}
    run = launch("python", tmp_path / "log", settings, hold="6", **env)
    send(run, signal.SIGTERM, "trainer")
    status, printed = run.end()
    assert status == 143, printed
    assert "after step 6, which is saved; go on with: " in printed
    assert BucketCheckpoints(storage, 1).steps()[-1] == "step-000000006"
    went_on = go_on(printed, tmp_path, **{**env, "PLD_CACHE": str(tmp_path / "new")})
    assert "goes on from step-000000006" in went_on.stdout
    assert_finished()
    assert_same_weights(working_folder(tmp_path / "new"), undisturbed)


@pytest.mark.long
def test_each_of_two_machines_pulls_the_run(settings, storage, object_store, tmp_path):
    """The second one's processes cannot see what the first one pulled."""
    ports = f"{object_store.port},{object_store.port}"
    words = ["-m", "tests.train_student.machine", *as_arguments(settings)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    env = {**object_store.environment(), "PORTS": ports, "PLD_CACHE": str(tmp_path / "old")}
    kill_after(storage, 2, [*launcher, *words], env)
    torchrun(2, words, tmp_path, {**env, "PLD_CACHE": str(tmp_path / "new")})
    pulled = {path.name for path in (working_folder(tmp_path / "new-1") / "checkpoints").iterdir()}
    assert len(pulled) == 1
    assert len(storage.read("metrics.jsonl", 2**20).splitlines()) == 2
