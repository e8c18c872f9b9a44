"""Commands whose launcher ends: which process that is, whatever lies between, and when it ended."""

import os
import subprocess
import sys

import psutil
import pytest

from pld.process.launcher import launcher_words
from tests.process.commands import LAUNCHER, PYTHON, SAVES, ended, started


@pytest.mark.parametrize("between", [(), ("bash", "-c", '"$@"; true', "-")], ids=["itself", "by-a-script"])
@pytest.mark.parametrize(("name", "stops"), [("accelerate", True), ("torchrun", True), ("nohup-wrapper", False)])
def test_it_stops_with_its_launcher_and_with_no_other_parent(tmp_path, name, stops, between):
    (tmp_path / name).write_text(LAUNCHER)
    with started(tmp_path, SAVES, sys.executable, str(tmp_path / name), *between) as (process, command):
        process.kill()
        if stops:
            said = f"stopped by the end of its launcher, saved; go on with: {PYTHON} {tmp_path / name}"
            assert said in process.stderr.read()
        else:
            with pytest.raises(psutil.TimeoutExpired):
                command.wait(1.5)
            command.kill()


# A container's first process, which takes in the processes whose parents end.
INIT = """
import os, subprocess, sys
wait = "import os, sys\\nwhile os.getppid() != 1: pass\\nos.execv(sys.argv[1], sys.argv[1:])"
subprocess.run(["bash", "-c", '"$@" &', "-", sys.executable, "-c", wait, *sys.argv[1:]], check=True)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.parametrize("is_torchruns", [True, False])
def test_torchrun_that_ended_before_it_was_found_is_missed(tmp_path, monkeypatch, is_torchruns):
    """Also where the first process is a program in Python."""
    if is_torchruns:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    (tmp_path / "init").write_text(INIT)
    container = ["unshare", "--pid", "--fork", "--mount-proc"]
    with started(tmp_path, SAVES, *container, sys.executable, str(tmp_path / "init")) as (process, command):
        if is_torchruns:
            status, printed = ended(process)
            assert (status, "stopped by the end of its launcher, saved" in printed) == (143, True)
        else:
            with pytest.raises(psutil.TimeoutExpired):
                command.wait(1.5)
            command.kill()


# torchrun as it ends, held there: its command line is gone with its main thread, while its children are its own still.
ENDING = """
import ctypes, subprocess, sys, threading
wait = "import os, sys\\nwhile open(f'/proc/{os.getppid()}/cmdline').read(): pass\\nos.execv(sys.argv[1], sys.argv[1:])"
command = subprocess.Popen([sys.executable, "-c", wait, *sys.argv[1:]])
threading.Thread(target=command.wait).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.parametrize("program", [ENDING, LAUNCHER], ids=["ending", "by-another-name"])
def test_torchrun_that_is_not_known_by_its_command_line_is_missed(tmp_path, monkeypatch, program):
    """Also below a program that may be a launcher of its own, as this one: in Python, with torch."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    (tmp_path / "launcher").write_text(program)
    with started(tmp_path, SAVES, sys.executable, str(tmp_path / "launcher")) as (process, _):
        process.kill()
        assert "stopped by the end of its launcher, saved" in process.stderr.read()


def test_launchers_are_known_by_their_command_lines():
    assert launcher_words(os.getpid()) is None
    argv = [sys.executable, "-c", "print(flush=True); input()", "-m", "torch.distributed.run"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.readline()
        assert launcher_words(process.pid) == argv
