"""Any one process of a run of two is killed: all are gone soon, nothing is half-written, the same command goes on."""

import contextlib
import random
import shutil
import signal
import time

import psutil
import pytest

from tests.train_student.runs import metrics
from tests.train_student.stopping.launched import checkpoints, launch, wait_until

SECONDS = 60


def kinds(launcher):
    """The processes of a run by what they are: the launcher, its ranks, and their loaders."""
    found = {"launcher": [launcher], "rank": [], "loader": []}
    with contextlib.suppress(psutil.NoSuchProcess):
        found["rank"] = launcher.children()
        for rank in found["rank"]:
            found["loader"] += rank.children()
    return found


def kill_one(settings, log, rng, *, while_starting):
    """Kill one process at a random moment and see that all end; says which, or None where the run had finished."""
    run = launch("torchrun", log, settings, PACE="0.1")
    launcher, process = psutil.Process(run.process.pid), run.process
    wait_until(lambda: process.poll() is not None or len(kinds(launcher)["rank"]) == 2)
    wait_until(lambda: process.poll() is not None or while_starting or log.exists())
    time.sleep(rng.uniform(0, 2))
    if process.poll() is not None:
        process.communicate()
        return None
    found = kinds(launcher)
    kind = rng.choice([kind for kind, members in found.items() if members])
    rng.choice(found[kind]).kill()
    started = time.monotonic()
    process.communicate(timeout=SECONDS)
    family = [each for kind in found.values() for each in kind]
    _, alive = psutil.wait_procs(family, timeout=max(0, started + SECONDS - time.monotonic()))
    assert not alive, kind
    return kind


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.long)])
def test_all_are_gone_and_the_same_command_goes_on(settings, tmp_path, kills):
    rng = random.Random(kills)
    settings = {**settings, "resume": "auto", "checkpoint_steps": 2}
    killed = []
    for number in range(kills):
        killed.append(kill_one(settings, tmp_path / f"log-{number}", rng, while_starting=number % 3 == 1))
        if killed[-1] is None:
            shutil.rmtree(tmp_path / "run")  # from the beginning
    assert sum(kind is not None for kind in killed) > kills / 2
    run = launch("torchrun", tmp_path / "last", settings)
    _, printed = run.process.communicate(timeout=120)
    assert run.process.returncode == 0, printed
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2, 3]
    assert len(checkpoints(tmp_path / "run")) == 2
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"checkpoints", "config.yaml", "metrics.jsonl", "model", "run.json"}
    assert not list(tmp_path.glob(".run.lock*"))


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_without_its_launcher_and_without_the_other_rank_ends(settings, tmp_path, number):
    """It waits in an exchange for the other one, which says that it is dead, or nothing."""
    run = launch("torchrun", tmp_path / "log", settings, hold="hang", STEP_SECONDS="5")
    run.trainer.send_signal(number)
    run.family[0].kill()
    held = [run.trainer, *run.trainer.children()] if number == signal.SIGSTOP else []
    _, alive = psutil.wait_procs([each for each in run.family if each not in held], timeout=30)
    assert not alive
    with contextlib.suppress(psutil.NoSuchProcess):
        run.trainer.send_signal(signal.SIGCONT)
    run.end()
