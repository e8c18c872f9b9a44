"""Commands that can be asked to stop, in processes of their own that hold still at some place."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.processes import environment

# As one types it, in an environment that is activated or not.
PYTHON = Path(sys.executable).name
PYTHON = PYTHON if shutil.which(PYTHON) == sys.executable else sys.executable

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
pld.process.stopping._STEP_SECONDS = 1.5
if __name__ == "__main__":
    with Stopping("all is kept") as stopping:
        raise SystemExit(run(main, []))
"""
SAY = "print('ready', flush=True); "
WAITS = SAY + "time.sleep(60)"
WAITS_IN_C = SAY + "wait_in_c()"
SAVES = "stopping.defer(); " + SAY + "stopping.wait(60); time.sleep(0.6); raise stopping.stopped(', saved')"
HANGS = "stopping.defer(); " + WAITS_IN_C
ADVANCES = "stopping.defer(); " + SAY
ADVANCES += "[(time.sleep(0.3), stopping.advance()) for _ in range(8)]; raise stopping.stopped(', saved')"
FINISHES = "stopping.defer(); stopping.finish(); " + SAY + "time.sleep(2.4); raise stopping.stopped(', saved')"
SWALLOWS = """
    try:
        print('ready', flush=True)
        time.sleep(60)
    except BaseException:
        time.sleep(60)
"""

LAUNCHER = """
import subprocess, sys
subprocess.run(sys.argv[1:])
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
            yield process, [process, *psutil.Process(process.pid).children(recursive=True)][-1] if wrapper else process
        finally:
            process.kill()


def ended(process):
    _, printed = process.communicate(timeout=20)
    return process.returncode, printed
