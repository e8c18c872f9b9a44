"""Commands that are asked to stop, in processes of their own that hold still at some place."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pld.process.stopping import find_launcher
from tests.processes import environment

BEGIN = """
import ctypes, signal, sys, time
import pld.process.stopping
from pld.config import run
from pld.process.stopping import Stopping

def wait_in_c():
    # For a lock that this thread holds: no signal interrupts that.
    mutex = ctypes.create_string_buffer(256)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)

def main(argv):
    {body}

pld.process.stopping._GRACE_SECONDS = 1.0
if __name__ == "__main__":
    with Stopping("all is kept") as stopping:
        raise SystemExit(run(main, []))
"""
SAY = "print('ready', flush=True); "
WAITS = SAY + "time.sleep(60)"
WAITS_IN_C = SAY + "wait_in_c()"
SAVES = "stopping.defer(); " + SAY + "stopping.wait(60); time.sleep(0.6); raise stopping.stopped(', saved')"
HANGS = "stopping.defer(); " + WAITS_IN_C
SWALLOWS = """
    try:
        print('ready', flush=True)
        time.sleep(60)
    except BaseException:
        time.sleep(60)
"""


@contextlib.contextmanager
def started(tmp_path, body, *wrapper):
    """A command that is ready; yields its process and the one to send signals to."""
    script = tmp_path / "command.py"
    script.write_text(BEGIN.format(body=body))
    argv = [*wrapper, sys.executable, str(script)]
    with subprocess.Popen(
        argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        if not line and wrapper:
            pytest.skip(f"this machine does not allow {' '.join(wrapper)}: {process.communicate()[1]}")
        assert line == "ready\n"
        try:
            yield process, next(iter(psutil.Process(process.pid).children()), process) if wrapper else process
        finally:
            process.kill()


def ended(process):
    _, printed = process.communicate(timeout=20)
    return process.returncode, printed


@pytest.mark.parametrize("body", [WAITS, SAVES], ids=["at-once", "deferred"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)])
def test_a_signal_stops_it_and_the_next_command_is_printed(tmp_path, body, number, status):
    with started(tmp_path, body) as (process, _):
        process.send_signal(number)
        found, printed = ended(process)
    what = ": all is kept" if body == WAITS else ", saved"
    last = f"stopped by {number.name}{what}; go on with: {sys.executable} {tmp_path / 'command.py'}"
    assert (found, printed.splitlines()[-1]) == (status, last)
    assert "Traceback" not in printed


@pytest.mark.parametrize("body", [WAITS_IN_C, SWALLOWS], ids=["in-C", "swallowed"])
def test_where_the_main_thread_does_not_hear_it_ends_after_a_while(tmp_path, body):
    with started(tmp_path, body) as (process, _):
        process.send_signal(signal.SIGTERM)
        found, printed = ended(process)
    assert found == 143
    assert "all is kept" in printed


@pytest.mark.parametrize("wrapper", [(), ("unshare", "--pid", "--fork")], ids=["process", "process-1-of-a-container"])
def test_a_second_interrupt_ends_it_at_once_but_not_one_that_was_forwarded(tmp_path, wrapper):
    """Also where the main thread hears nothing, and where the kernel ignores signals that are not handled."""
    with started(tmp_path, HANGS, *wrapper) as (process, command):
        command.send_signal(signal.SIGINT)
        time.sleep(0.1)
        command.send_signal(signal.SIGINT)
        time.sleep(0.6)
        assert process.poll() is None
        command.send_signal(signal.SIGINT)
        found, printed = ended(process)
    assert found == 130
    assert "ended by a second Ctrl-C" in printed


def test_of_several_signals_the_first_decides(tmp_path):
    with started(tmp_path, SAVES) as (process, _):
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
            time.sleep(0.05)
        assert ended(process)[0] == 143


def test_an_interrupt_that_is_ignored_stays_so(tmp_path):
    """As of jobs in the background of a shell's script."""
    with started(tmp_path, WAITS, "bash", "-c", 'trap "" INT; "$@" & wait', "-") as (process, command):
        command.send_signal(signal.SIGINT)
        command.send_signal(signal.SIGTERM)
        assert "stopped by SIGTERM" in ended(process)[1]


LAUNCHER = """
import subprocess, sys
subprocess.run(sys.argv[1:])
"""


@pytest.mark.parametrize(("name", "stops"), [("accelerate", True), ("torchrun", True), ("nohup-wrapper", False)])
def test_it_stops_with_its_launcher_and_with_no_other_parent(tmp_path, name, stops):
    (tmp_path / name).write_text(LAUNCHER)
    with started(tmp_path, SAVES, sys.executable, str(tmp_path / name)) as (process, command):
        process.kill()
        if stops:
            message = process.stderr.read()
            assert (
                f"stopped by the end of its launcher, saved; go on with: {sys.executable} {tmp_path / name}" in message
            )
        else:
            with pytest.raises(psutil.TimeoutExpired):
                command.wait(1.5)
            command.kill()


def test_launchers_are_known_by_their_command_lines(tmp_path):
    assert find_launcher(os.getpid()) is None
    argv = [sys.executable, "-c", "print(flush=True); input()", "-m", "torch.distributed.run"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.readline()
        assert find_launcher(process.pid) == argv
