"""One command trains in a run's folder at a time, and none is locked out by one that crashed."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pld.errors import ConfigError
from pld.process.owner import Owner, read_owner
from tests.processes import environment
from train_student.run import lock
from train_student.run.lock import lock_run

HOLD = "import sys, time; from pathlib import Path; from train_student.run.lock import lock_run\n"
HOLD += "with lock_run(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"


@contextlib.contextmanager
def another_process(folder):
    """One that holds the folder until it is killed at the end."""
    argv = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def path_of(folder):
    return folder.with_name(f".{folder.name}.lock")


def test_the_lock_is_gone_after_use(tmp_path):
    with lock_run(tmp_path / "new" / "run") as held:
        assert [path.name for path in (tmp_path / "new").iterdir()] == [".run.lock"]
        held.check()
    assert not list((tmp_path / "new").iterdir())


def test_a_second_command_is_refused_and_told_who_has_it(tmp_path):
    with another_process(tmp_path / "run") as process:
        found = rf"is in use: process {process.pid} on \S+ has, since 20"
        with pytest.raises(ConfigError, match=found), lock_run(tmp_path / "run"):
            pass


def test_a_link_to_a_folder_has_its_lock(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with lock_run(tmp_path / "run"), pytest.raises(ConfigError, match="is in use"), lock_run(tmp_path / "link"):
        pass


def test_the_root_is_no_runs_folder():
    with pytest.raises(ConfigError, match="found the root of the file system"), lock_run(Path("/")):
        pass


def test_a_dead_owner_whose_parent_never_asks_locks_nobody_out(tmp_path):
    """A zombie still has its number."""
    pid = os.fork()
    if not pid:
        path_of(tmp_path / "run").write_text(json.dumps(dataclasses.asdict(Owner.this_process())))
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        with lock_run(tmp_path / "run"):
            pass
    finally:
        os.waitpid(pid, 0)


def test_a_killed_owner_locks_nobody_out(tmp_path):
    with another_process(tmp_path / "run"):
        pass
    assert path_of(tmp_path / "run").exists()
    with lock_run(tmp_path / "run"):
        pass


def test_a_process_that_got_the_number_of_a_dead_one_is_not_it(tmp_path):
    owner = dataclasses.replace(Owner.this_process(), started="1")
    path_of(tmp_path / "run").write_text(json.dumps(dataclasses.asdict(owner)))
    with lock_run(tmp_path / "run"):
        pass


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A lock of another machine; watching and heartbeats are quick."""
    for name, seconds in {"PATIENCE_SECONDS": 1.0, "_POLL_SECONDS": 0.02, "HEARTBEAT_SECONDS": 0.1}.items():
        monkeypatch.setattr(lock, name, seconds)
    owner = dataclasses.replace(Owner.this_process(), host="node7", space="other", process=1)
    path = path_of(tmp_path / "run")
    path.write_text(json.dumps(dataclasses.asdict(owner)))
    os.utime(path, (4e9, 4e9))  # its clock is decades ahead
    return path


def test_of_another_machine_a_heartbeat_says_that_it_lives(tmp_path, elsewhere):
    beating = lock.RunLock(elsewhere, read_owner(elsewhere))
    with pytest.raises(ConfigError, match="process 1 on node7"):
        lock_run(tmp_path / "run").__enter__()
    beating.release()


def test_of_another_machine_silence_says_that_it_is_dead(tmp_path, elsewhere):
    started = time.monotonic()
    with lock_run(tmp_path / "run") as held:
        assert time.monotonic() - started >= 1
        held.check()


def test_who_was_suspended_for_too_long_is_told(tmp_path):
    with lock_run(tmp_path / "run") as held:
        other = dataclasses.replace(Owner.this_process(), host="node7", process=5)
        path_of(tmp_path / "run").write_text(json.dumps(dataclasses.asdict(other)))
        with pytest.raises(ConfigError, match="process 5 on node7 has taken this run over"):
            held.check()
    assert path_of(tmp_path / "run").exists()  # the other's


def contend(folder, barrier, results):
    barrier.wait()
    try:
        with lock_run(folder):
            results.put("held")
            barrier.wait()
    except ConfigError:
        results.put("refused")
        barrier.wait()


@pytest.mark.parametrize("left", [False, True])
def test_of_several_at_once_exactly_one_gets_it(tmp_path, left):
    """Also where all find what a dead owner left."""
    if left:
        dead = dataclasses.replace(Owner.this_process(), started="1")
        path_of(tmp_path / "run").write_text(json.dumps(dataclasses.asdict(dead)))
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(6), context.Queue()
    processes = [context.Process(target=contend, args=(tmp_path / "run", barrier, results)) for _ in range(6)]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert found == ["held", *["refused"] * 5]
