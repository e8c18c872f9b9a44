"""Stage one as users launch it: several processes, and killed ones."""

import json
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from cache_teacher.cache import cache
from pld.store import open_store
from tests.cache_teacher.test_cache import config
from tests.making import make_dataset
from tests.processes import environment, python, torchrun, tree_bytes

COMMAND = ("--teacher", "local-dir:teacher", "--views", "12", "-k", "5", "--threads", "1", "--store", "store")
COMMAND += ("--allow_wrong_labels",)  # of a teacher that was never trained


@pytest.fixture(scope="module")
def bench(world, tmp_path_factory):
    """A dataset of several shards, and the bytes of the store that one undisturbed process makes of it."""
    folder = tmp_path_factory.mktemp("bench")
    make_dataset(folder / "data", shard_sizes=(60, 45, 70, 52, 33))
    shutil.copytree(world / "teacher", folder / "teacher")
    python("-m", "cache_teacher", "--data", "data", *COMMAND, cwd=folder)
    return folder, tree_bytes(folder / "store")


def fresh(bench, tmp_path):
    folder, wanted = bench
    for name in ("data", "teacher"):
        shutil.copytree(folder / name, tmp_path / name)
    return dict(wanted)


def test_two_processes_write_the_same_store(bench, tmp_path):
    wanted = fresh(bench, tmp_path)
    log = tmp_path / "logs" / "both.log"
    argv = ["-m", "cache_teacher", "--data", "data", *COMMAND, "--log_level", "debug", "--log_file", log]
    done = torchrun(2, argv, cwd=tmp_path)
    written = tree_bytes(tmp_path / "store")
    assert json.loads(written.pop("store.json"))["fingerprint"] == json.loads(wanted.pop("store.json"))["fingerprint"]
    assert written == wanted
    # Each process says how many of the parts were its own: both had some, and together they had all.
    shares = re.findall(
        r"^\S+T\S+[+-]\d\d:\d\d INFO cache_teacher\.cache rank (\d): process \1 of 2: (\d+) parts to cache$",
        log.read_text(),
        re.MULTILINE,
    )
    assert sorted(rank for rank, _ in shares) == ["0", "1"]
    assert all(int(parts) for _, parts in shares)
    assert sum(int(parts) for _, parts in shares) == 5 * 2
    # On the console the first one speaks; its progress is in the file, too.
    assert re.findall(r"process (\d) of 2: ", done.stdout + done.stderr) == ["0"]
    assert re.search(r"INFO pld\.progress rank 0: caching store: 100 % ", log.read_text())


def start_and_kill(argv, folder, *, times: int) -> int:
    """Run a command and kill it once it has begun to write, so many times; how often it was still running."""
    rng, killed, store = random.Random(0), 0, folder / "store"
    for _ in range(times):
        process = subprocess.Popen(
            [sys.executable, *argv],
            cwd=folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Not before it has begun to write; after that, at any moment.
        deadline, before = time.monotonic() + 60, len(list(store.rglob("*")))
        while process.poll() is None and len(list(store.rglob("*"))) == before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.15))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    return killed


@pytest.mark.long
def test_killed_five_times_and_run_again(bench, tmp_path):
    wanted = fresh(bench, tmp_path)
    argv = ["-m", "cache_teacher", "--data", "data", *COMMAND]
    assert start_and_kill(argv, tmp_path, times=5) >= 3
    python(*argv, cwd=tmp_path)
    assert tree_bytes(tmp_path / "store") == wanted
    assert open_store(str(tmp_path / "store")).num_views == 12


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)])
def test_killed_within_mixed_parts_and_run_again(world, bench, tmp_path, processes):
    """Gone on with by one process, or by two, which share the parts."""
    fresh(bench, tmp_path)
    policy = "rand-m9,mixup-0.8,cutmix-1.0"
    argv = ["-m", "cache_teacher", "--data", "data", *COMMAND, "--policy", policy, "--views", "4"]
    settings = {"data": str(tmp_path / "data"), "views": 4, "policy": policy}
    cache(config(world, tmp_path / "undisturbed", **settings))
    assert start_and_kill(argv, tmp_path, times=1)
    if processes == 2:
        torchrun(2, argv, cwd=tmp_path)
    else:
        cache(config(world, tmp_path / "store", **settings))
    written, wanted = tree_bytes(tmp_path / "store"), tree_bytes(tmp_path / "undisturbed")
    written.pop("store.json"), wanted.pop("store.json")  # the command's --store is in it
    assert written == wanted


# With HOLD in the environment each process holds when its first part is written. As __main__.py it is in store.json as
# the command itself is.
HELD = """
import os, time
import cache_teacher.cache
from cache_teacher.__main__ import main

map_ahead = cache_teacher.cache.map_ahead

def held(*arguments, **named):
    for result in map_ahead(*arguments, **named):
        yield result
        time.sleep(60 * ("HOLD" in os.environ))

if __name__ == "__main__":
    cache_teacher.cache.map_ahead = held
    raise SystemExit(main())
"""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
LAUNCHER_ENDED = "the end of its launcher"
STOPS = [  # the launcher, what it gets, its own status, what stopped the command
    ((), signal.SIGTERM, 143, "SIGTERM"),
    *(
        pytest.param(*stop, marks=pytest.mark.long)
        for stop in [
            ((), signal.SIGINT, 130, "SIGINT"),
            ((), signal.SIGUSR1, 143, "SIGUSR1"),
            (TORCHRUN, signal.SIGTERM, 1, "SIGTERM"),
            (TORCHRUN, signal.SIGINT, 1, "SIGINT"),
            (TORCHRUN, signal.SIGUSR1, -signal.SIGUSR1, LAUNCHER_ENDED),
            (TORCHRUN, signal.SIGKILL, -signal.SIGKILL, LAUNCHER_ENDED),
        ]
    ),
]


@pytest.mark.parametrize(("launcher", "number", "status", "cause"), STOPS)
def test_stopped_and_run_again(bench, tmp_path, launcher, number, status, cause):
    wanted = fresh(bench, tmp_path)
    (tmp_path / "__main__.py").write_text(HELD)
    argv = [sys.executable, *launcher, "__main__.py", "--data", "data", *COMMAND]
    process = subprocess.Popen(argv, cwd=tmp_path, env=environment(HOLD="1"), stderr=subprocess.PIPE, text=True)
    begun = 2 if launcher else 1
    while len(commits := list((tmp_path / "store").glob("commits/*/*.json"))) < begun and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, printed = process.communicate(timeout=60)  # until all its processes are gone
    assert process.returncode == status, printed
    assert f"stopped by {cause}: the parts that are written are kept; go on with: " in printed
    assert ("Traceback" in printed) == bool(launcher and number in {signal.SIGTERM, signal.SIGINT})  # torchrun's own
    assert begun <= len(commits) < 10
    assert not list((tmp_path / "store").rglob(".*.tmp"))
    command = shlex.split(re.findall(r"; go on with: (.*)", printed)[0])
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True, capture_output=True)
    assert tree_bytes(tmp_path / "store") == wanted


def test_a_full_disk(bench, tmp_path):
    """A real one, a small tmpfs; skipped, and said so, where mounting is not allowed."""
    wanted = fresh(bench, tmp_path)
    (tmp_path / "store").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path / "store")], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs privileges that this machine does not give")
    try:
        failed = python("-m", "cache_teacher", "--data", "data", *COMMAND, cwd=tmp_path, check=False)
        assert failed.returncode == 2, failed.stderr
        assert "No space left on device" in failed.stderr
        assert "Traceback" not in failed.stderr
        subprocess.run(["mount", "-o", "remount,size=8m", str(tmp_path / "store")], check=True)
        python("-m", "cache_teacher", "--data", "data", *COMMAND, cwd=tmp_path)
        assert tree_bytes(tmp_path / "store") == wanted
    finally:
        subprocess.run(["umount", str(tmp_path / "store")], check=True)
