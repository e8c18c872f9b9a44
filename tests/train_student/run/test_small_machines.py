"""Training with little /dev/shm, few descriptors, little memory or disk: it finishes, or says what to do."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import environment
from tests.train_student.begun import arguments
from tests.train_student.runs import assert_same_weights, metrics


def can_mount() -> bool:
    mounts = "mount -t tmpfs -o size=1M tmpfs /mnt"
    return subprocess.run(["unshare", "-m", "sh", "-c", mounts], capture_output=True, check=False).returncode == 0


mounting = pytest.mark.skipif(
    sys.platform != "linux" or not can_mount(), reason="small file systems are mounted here, which only root may"
)


def command(shell: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, after shell commands, in a mount namespace of its own."""
    whole = ["unshare", "-m", "bash", "-c", f'{shell} && exec "$@"', "bash", sys.executable, *argv]
    return subprocess.run(whole, env=environment(), capture_output=True, text=True, timeout=300, check=False)


@mounting
def test_dockers_shm_and_few_descriptors_are_enough(place, tmp_path):
    """Batches of 11 MB, six of them in memory; 24 images, and fewer files that may be kept open."""
    sizes = {"batch_size": 24, "image_size": 400, "model": "test_resnet", "model_kwargs": {}}
    wanted = arguments(place / "data", tmp_path / "run", epochs=1, workers=2, **sizes)
    small = "mount -t tmpfs -o size=64M tmpfs /dev/shm && ulimit -n 80"
    done = command(small, "-m", "train_student", *wanted)
    assert done.returncode == 0, done.stderr
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1]


@mounting
@pytest.mark.parametrize(("descriptors", "workers"), [(64, 2), pytest.param(500, 200, marks=pytest.mark.long)])
def test_refused_it_leaves_no_folder(place, tmp_path, descriptors, workers):
    """So the same command with what the message advises is a new run."""
    wanted = arguments(place / "data", tmp_path / "run", epochs=1, workers=workers)
    done = command(f"ulimit -n {descriptors}", "-m", "train_student", *wanted)
    assert done.returncode == 2
    assert f"error: ulimit -n {descriptors}: {workers} loader processes and what they read want" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of 1.5 GB, of either version."""
    name = f"pld-test-{os.getpid()}"
    for folder, limit in (
        (Path("/sys/fs/cgroup/memory") / name, "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup") / name, "memory.max"),
    ):
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text("1500000000")
            yield folder
            return
        except OSError:
            continue
        finally:
            folder.rmdir()
    pytest.skip("no control group with a limit of memory can be made here, which only root of some systems may")


@mounting
def test_a_group_of_too_little_memory_is_named(place, small_group, tmp_path):
    wanted = arguments(place / "data", tmp_path / "run", epochs=1, batch_size=24, image_size=1600, workers=12)
    done = command(f"echo $$ > {small_group}/cgroup.procs", "-m", "train_student", *wanted)
    assert done.returncode == 2, done.stderr
    assert "error: --workers 12: loader processes want" in done.stderr
    assert "this container or job (cgroup) has" in done.stderr
    assert not (tmp_path / "run").exists()


@mounting
def test_a_disk_that_fills_keeps_what_it_has_and_the_run_goes_on(place, training, tmp_path):
    """It has room for the two checkpoints that are kept and not for a third."""
    settings = {"epochs": 2, "image_size": 64, "opt": "lamb", "checkpoint_steps": 1}
    status, printed = training("undisturbed", **settings)
    assert status == 0, printed
    checkpoints = sorted((tmp_path / "undisturbed" / "checkpoints").iterdir())
    room = 27 * checkpoints[0].stat().st_size // 10 // 1024
    wanted = arguments(place / "data", tmp_path / "disk" / "run", resume="auto", **settings)
    done = command("true", "-m", "tests.train_student.small_disk", str(tmp_path), str(room), *wanted)
    assert "exit statuses 2 and 0" in done.stdout, done.stderr
    assert "step-000000003.safetensors: cannot be written: " in done.stderr
    held = [path.name for path in sorted((tmp_path / "full" / "run" / "checkpoints").iterdir())]
    assert held == ["step-000000001.safetensors", "step-000000002.safetensors"]
    assert "goes on from step-000000002.safetensors" in done.stdout
    assert [line["epoch"] for line in metrics(tmp_path / "whole" / "run")] == [1, 2]
    assert_same_weights(tmp_path / "whole" / "run", tmp_path / "undisturbed")


def test_a_clock_that_jumps_back_an_hour_changes_nothing(training, tmp_path, monkeypatch):
    """It jumps after it was read four times; a checkpoint is due at every step."""
    clock, readings = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: clock() - 3600 * (next(readings) > 3))
    status, printed = training(epochs=2, image_size=64, checkpoint_minutes=1e-6, keep_checkpoints=9)
    assert status == 0, printed
    checkpoints = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [path.stem for path in checkpoints] == [f"step-{step:09d}" for step in range(1, 7)]
    assert all(0 < line["seconds"] < 600 for line in metrics(tmp_path / "run"))
