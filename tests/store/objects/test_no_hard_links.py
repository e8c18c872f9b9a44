"""Stores on file systems without hard links: rename that replaces nothing, claims, or one writer alone."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from pld.errors import ConfigError, StoreError
from pld.store import open_store
from pld.store.maintain.verify import verify_store
from pld.store.objects import exclusive
from pld.store.objects.local_storage import LocalStorage
from pld.store.write.garbage import plan_sweep
from tests.processes import ROOT, environment
from tests.store.world import World, tree

NAME = "commits/v000-000/x.json"


def failing(code):
    def call(*_, **__):
        raise OSError(code, os.strerror(code))

    return call


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path)


@pytest.fixture
def no_links(monkeypatch):
    monkeypatch.setattr("os.link", failing(errno.EPERM))


@pytest.fixture
def only_claims(no_links, monkeypatch):
    monkeypatch.setattr(exclusive, "_rename_new", lambda staged, path: None)


@pytest.fixture(params=["rename", "claims"])
def either(request):
    request.getfixturevalue("no_links" if request.param == "rename" else "only_claims")
    return request.param


# A writer as a process of its own, in 0.05 s: the package's `__init__`, which loads torch, is left out.
WRITER = """
import errno, os, sys, time, types
from pathlib import Path
package = types.ModuleType("pld.store")
package.__path__ = ["pld/store"]
sys.modules["pld.store"] = package
from pld.store.objects import exclusive
from pld.store.objects.local_storage import LocalStorage
def fail(*_): raise OSError(errno.EPERM, "")
def hang(*_): print("here", flush=True); time.sleep(600)
os.link = fail
kind, storage, data = sys.argv[1], LocalStorage(Path(sys.argv[2])), sys.argv[3].encode()
if kind != "rename": exclusive._rename_new = lambda staged, path: None
if kind == "before its claim is written": exclusive._choose_staged = hang
if kind == "before its object is renamed": Path.replace = hang
print("ready", flush=True)
for name in sys.stdin.readline().split(): print(storage.put_exclusive(name, data), flush=True)
"""


def start_writer(root, kind, data):
    command = [sys.executable, "-c", WRITER, kind, str(root), data]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, cwd=ROOT, env=environment())


def kill_writer(root, moment):
    """A writer of NAME is killed with kill -9 at that moment."""
    with start_writer(root, moment, "killed") as writer:
        writer.stdin.write(f"{NAME}\n")
        writer.stdin.flush()
        assert [writer.stdout.readline() for _ in range(2)] == ["ready\n", "here\n"]
        writer.send_signal(signal.SIGKILL)


def claims(root):
    return sorted(path for path in Path(root).rglob(".*.tmp") if path.name.split(".")[-2].startswith("0" * 20))


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("kind", ["no_links", "only_claims"])
def test_an_object_is_created_once(storage, request, monkeypatch, kind, code):
    request.getfixturevalue(kind)
    monkeypatch.setattr("os.link", failing(code))
    assert storage.put_exclusive(NAME, b"first")
    assert not storage.put_exclusive(NAME, b"second")
    assert tree(storage.url) == {NAME: b"first"}


@pytest.mark.parametrize("code", [errno.EPERM, errno.EINVAL, errno.ENOSYS])
def test_a_rename_that_replaces_nothing_may_be_refused(tmp_path, monkeypatch, code):
    def refuse(*_):
        exclusive.ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(exclusive.ctypes, "CDLL", lambda *_, **__: SimpleNamespace(renameat2=refuse))
    assert exclusive._rename_new(tmp_path / "staged", tmp_path / "x") is None


def test_a_rename_that_replaces_nothing_replaces_nothing(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    if exclusive._rename_new(tmp_path / "a", tmp_path / "x") is None:
        pytest.skip("this system has no such call")
    assert exclusive._rename_new(tmp_path / "b", tmp_path / "x") is False
    assert tree(tmp_path) == {"b": b"b", "x": b"a"}
    with pytest.raises(FileNotFoundError):
        exclusive._rename_new(tmp_path / "a", tmp_path / "y")


def test_one_of_eight_threads_creates_an_object(storage, either):
    barrier, won = threading.Barrier(8, timeout=30), []

    def write(number):
        for turn in range(20):
            barrier.wait()
            if storage.put_exclusive(f"x-{turn}", bytes([number]) * 1000):
                won.append((f"x-{turn}", bytes([number]) * 1000))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(won) == 20
    assert tree(storage.url) == dict(won)


@pytest.mark.parametrize("kind", ["rename", "claims"])
def test_one_of_four_processes_creates_an_object(tmp_path, kind):
    data = {digit: digit * 1000 for digit in "1234"}
    writers = {digit: start_writer(tmp_path, kind, text) for digit, text in data.items()}
    names = [f"x-{turn:03}" for turn in range(200)]
    assert all(writer.stdout.readline() == "ready\n" for writer in writers.values())
    for writer in writers.values():
        writer.stdin.write(" ".join(names) + "\n")
        writer.stdin.flush()
    answers = {digit: writer.communicate()[0].split() for digit, writer in writers.items()}
    assert [writer.returncode for writer in writers.values()] == [0] * 4
    won = [[digit for digit in writers if answers[digit][turn] == "True"] for turn in range(200)]
    assert all(len(winners) == 1 for winners in won)
    assert tree(tmp_path) == {name: data[digit].encode() for name, (digit,) in zip(names, won, strict=True)}


def test_a_killed_writers_object_is_finished(storage, only_claims):
    kill_writer(storage.url, "before its object is renamed")
    assert claims(storage.url)
    assert not storage.exists(NAME)
    assert not storage.put_exclusive(NAME, b"next")
    assert tree(storage.url) == {NAME: b"killed"}


def test_a_killed_writers_empty_claim_is_passed_over_in_time(storage, only_claims, monkeypatch):
    kill_writer(storage.url, "before its claim is written")
    assert [path.read_bytes() for path in claims(storage.url)] == [b""]
    monkeypatch.setattr(exclusive, "_EMPTY_SECONDS", 0.1)
    assert storage.put_exclusive(NAME, b"next")
    assert storage.read(NAME, 9) == b"next"
    assert not claims(storage.url)
    for leftover in plan_sweep(storage.list(""), storage.leftovers(), {}):
        storage.delete(leftover)
    assert tree(storage.url) == {NAME: b"next"}


STRAYS = {
    "whose file is gone": (f".x.json.{'a' * 32}.tmp".encode(), 0),
    "empty": (b"", 0.1),
    "cut": (b".x.json.aaaa", 0.1),
    "of another object": (f".y.json.{'a' * 32}.tmp".encode(), 0.1),
    "that leads elsewhere": (f"../.x.json.{'a' * 32}.tmp".encode(), 0.1),
    "of zeros, after a power cut": (bytes(47), 0.1),
    "of no text": (b"\xff\xfe", 0.1),
}


@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_claim_from_another_host(storage, only_claims, monkeypatch, stray):
    text, seconds = STRAYS[stray]
    monkeypatch.setattr(exclusive, "_EMPTY_SECONDS", seconds or 600)
    path = Path(storage.url, NAME)
    path.parent.mkdir(parents=True)
    exclusive._claim(path, 1).write_bytes(text)
    assert storage.list("") == []
    assert list(storage.leftovers().values()) == [NAME]
    assert storage.put_exclusive(NAME, b"next")
    assert tree(storage.url) == {NAME: b"next"}


def test_claims_are_swept_once_their_object_exists(storage):
    storage.put("y", b"")
    [exclusive._claim(Path(storage.url, name), 2).touch() for name in "xy"]
    assert storage.list("") == ["y"]
    [swept] = plan_sweep(storage.list(""), storage.leftovers(), {})
    assert swept == exclusive._claim(Path("y"), 2).name


def test_a_whole_store(tmp_path, either):
    world = World()
    writer = world.write(tmp_path / "unlinked", 3, block_views=2)
    assert writer.missing_parts(3) == []
    storage = LocalStorage(tmp_path / "unlinked")
    assert list(verify_store(storage, lambda num_bytes, total: None)) == []
    assert open_store(str(tmp_path / "unlinked")).num_views >= 3
    assert storage.leftovers() == {}


def test_a_store_is_the_same_as_with_hard_links(tmp_path, monkeypatch):
    World().write(tmp_path / "linked", 3)
    monkeypatch.setattr("os.link", failing(errno.ENOTSUP))
    World().write(tmp_path / "renamed", 3)
    monkeypatch.setattr(exclusive, "_rename_new", lambda staged, path: None)
    World().write(tmp_path / "claimed", 3)
    assert tree(tmp_path / "claimed") == tree(tmp_path / "renamed") == tree(tmp_path / "linked")


def opener(monkeypatch, answer):
    """Files opened with O_EXCL are opened by `answer` instead."""
    proxy = SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
    proxy.open = lambda path, flags, mode: answer(path, flags & ~os.O_EXCL, mode)
    monkeypatch.setattr(exclusive, "os", proxy)


@pytest.mark.parametrize("answer", [failing(errno.EINVAL), failing(errno.EPERM), failing(errno.ENOTSUP), os.open])
def test_without_exclusive_creation_one_writer_alone_can_write(storage, only_claims, monkeypatch, answer):
    opener(monkeypatch, answer)
    with pytest.raises(StoreError, match=r"neither hard links nor exclusive creation .*set PLD_SINGLE_WRITER=1 when"):
        storage.put_exclusive(NAME, b"x")
    assert tree(storage.url) == {}
    monkeypatch.setenv("PLD_SINGLE_WRITER", "1")
    assert storage.put_exclusive(NAME, b"x")
    assert not storage.put_exclusive(NAME, b"y")
    assert tree(storage.url) == {NAME: b"x"}


def test_one_writer_alone_replaces_nothing(tmp_path, monkeypatch, only_claims):
    monkeypatch.setenv("PLD_SINGLE_WRITER", "1")
    for name in ("staged", "x"):
        (tmp_path / name).write_text(name)
    assert not exclusive.create(tmp_path / "staged", tmp_path / "x", b"staged")
    assert (tmp_path / "x").read_text() == "x"
    World().write(tmp_path / "store", 1)
    assert list(verify_store(LocalStorage(tmp_path / "store"), lambda num_bytes, total: None)) == []


def test_a_winners_sweep_under_a_running_writer_makes_it_lose_and_not_fail(storage, no_links, monkeypatch):
    def swept(staged, path):
        path.write_bytes(b"winner")
        staged.unlink()
        raise FileNotFoundError(staged)

    monkeypatch.setattr(exclusive, "_rename_new", swept)
    assert storage.put_exclusive("x", b"loser") is False
    assert storage.read("x", 10) == b"winner"


def test_the_variable_is_checked_where_it_matters(storage, monkeypatch):
    monkeypatch.setenv("PLD_SINGLE_WRITER", "yes")
    assert storage.put_exclusive("x", b"")
    monkeypatch.setattr("os.link", failing(errno.EPERM))
    monkeypatch.setattr(exclusive, "_rename_new", lambda staged, path: None)
    with pytest.raises(ConfigError, match=r"PLD_SINGLE_WRITER: found 'yes', wanted 1 .* else 0"):
        storage.put_exclusive("y", b"")
    monkeypatch.setenv("PLD_SINGLE_WRITER", "0")
    assert storage.put_exclusive("y", b"")


@pytest.mark.parametrize("call", ["os.fsync", "os.link", "os.open", "os.write", "pathlib.Path.replace"])
def test_a_full_disk_is_said_as_before(storage, only_claims, monkeypatch, call):
    (Path(storage.url) / NAME).parent.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(call, failing(errno.ENOSPC))
        with pytest.raises(StoreError, match=r"x\.json: cannot be written: No space left on device; nothing half-writ"):
            storage.put_exclusive(NAME, b"x")
    assert not [name for name in tree(storage.url) if name not in storage.leftovers()]
    assert all(data == b"" or b"x.json" in data for data in tree(storage.url).values())
    monkeypatch.setattr(exclusive, "_EMPTY_SECONDS", 0.1)
    assert storage.put_exclusive(NAME, b"y")
    assert tree(storage.url) == {NAME: b"y"}
