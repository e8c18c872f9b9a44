"""Any one process of a run of two is killed: all are gone soon, nothing is half-written, the same command goes on."""

import contextlib
import random
import time

import psutil
import pytest

from tests.train_student.runs import metrics
from tests.train_student.stopping.launched import checkpoints, launch, wait_until

SECONDS = 60


def kinds(launcher):
    """The processes of a run by what they are: the launcher, its ranks, and their loaders."""
    ranks, loaders = launcher.children(), []
    for rank in ranks:
        with contextlib.suppress(psutil.NoSuchProcess):
            loaders += rank.children()
    return {"launcher": [launcher], "rank": ranks, "loader": loaders}


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 20))])
def test_all_are_gone_and_the_same_command_goes_on(settings, tmp_path, seed):
    rng = random.Random(seed)
    settings = {**settings, "resume": "auto", "checkpoint_steps": 2}
    run = launch("torchrun", tmp_path / "log", settings, PACE="0.03")
    launcher = psutil.Process(run.process.pid)
    wait_until(lambda: len(kinds(launcher)["rank"]) == 2 or run.process.poll() is not None)
    if seed:  # else while it starts
        wait_until(lambda: (tmp_path / "log").exists() or run.process.poll() is not None)
    time.sleep(rng.uniform(0, 3))
    found = kinds(launcher)
    family = [each for kind in found.values() for each in kind]
    kind = rng.choice([kind for kind, members in found.items() if members])
    rng.choice(found[kind]).kill()
    started = time.monotonic()
    run.process.communicate(timeout=SECONDS)
    _, alive = psutil.wait_procs(family, timeout=max(0, started + SECONDS - time.monotonic()))
    assert not alive, kind
    again = launch("torchrun", tmp_path / "again", settings)
    _, printed = again.process.communicate(timeout=120)
    assert again.process.returncode == 0, printed
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2, 3]
    assert len(checkpoints(tmp_path / "run")) == 2
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"checkpoints", "config.yaml", "metrics.jsonl", "model", "run.json"}
