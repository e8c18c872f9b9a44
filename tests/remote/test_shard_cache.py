"""Shards kept on the local disk: a full one, killed processes, processes that share them."""

import resource
import signal
import subprocess
import sys
import time

import pytest

from pld.errors import OutputError
from pld.images import open_source
from tests.object_store import FaultyProxy
from tests.processes import environment
from tests.remote.faults import SIZES, assert_same, kept, put


def test_a_full_disk_is_said_and_leaves_nothing(memory, cache, monkeypatch):
    """A limit on what a file may hold, which fails a write as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"image shards cannot be kept there: .*make room, lower PLD_IMAGE_CACHE"):
            open_source(memory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert kept(cache) == 0
    (cache.parent / "file").write_text("")
    monkeypatch.setenv("PLD_CACHE", str(cache.parent / "file"))
    with pytest.raises(OutputError, match="cannot be kept there"):
        open_source(memory)


FETCH = "import sys; from pld.images import open_source; print(len(open_source(sys.argv[1])))"


def test_killed_while_fetching_the_next_one_goes_on(bucket, object_store, local, cache, tmp_path):
    """At every stage; nothing half-written is taken for a shard, and its room is given back."""
    put(local, f"{bucket}/data")
    sizes = [path.stat().st_size for path in local.glob("train-*.tar")]
    env = environment(**object_store.environment(), PLD_CACHE=str(tmp_path / "cache"),
                      PLD_IMAGE_CACHE_BYTES=str(sum(sizes)))  # fmt: skip
    argv = [sys.executable, "-c", FETCH, f"{bucket}/data"]
    for wanted in (1, 4):
        process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(cache.glob("*"))) <= wanted:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    (cache / "0.tar.part").write_bytes(bytes(sizes[0]))  # of a killed process, certainly
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(sum(SIZES))
    assert_same(open_source(f"{bucket}/data"), open_source(str(local)))
    assert kept(cache) <= sum(sizes)


def test_processes_share_what_they_fetch(bucket, object_store, local, cache, tmp_path):
    put(local, f"{bucket}/data")
    with FaultyProxy(object_store.port, failing=0, cutting=0) as proxy:
        env = environment(**object_store.environment(proxy.port), PLD_CACHE=str(tmp_path / "cache"))
        argv = [sys.executable, "-c", FETCH, f"{bucket}/data"]
        processes = [subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.communicate()[0].strip() for process in processes] == [str(sum(SIZES))] * 2
        sizes = {path.name: path.stat().st_size for path in local.glob("train-*.tar")}
        assert {path.rpartition("/")[2]: n for path, n in proxy.sent.items() if path.endswith(".tar")} == sizes
