"""How the command's process ends: launched ones leave the interpreter whole, and lose nothing by that."""

import subprocess
import sys

import pytest

from tests.making import student_settings
from tests.processes import environment, torchrun
from tests.train_student.runs import as_arguments

# What lets go of a Python object while the interpreter is taken apart aborts the process, as torch's threads do.
COMMAND = """
import atexit, os, sys, types
from pld.errors import DataError
from pld.process.stopping import Stopped
from train_student.__main__ import main

class Late:
    def __del__(self):
        os.abort()

def train(words, stopping):
    print("trained")
    {ends}

late = Late() if "RANK" in os.environ else None
atexit.register(print, "at exit")
sys.modules["train_student.run.train"] = types.SimpleNamespace(main=train)
raise SystemExit(main([]))
"""
ENDS = {
    "return": (0, ""),
    "raise DataError('wrong images')": (2, "error: wrong images"),
    "raise Stopped(143, 'stopped by SIGTERM')": (143, "stopped by SIGTERM"),
    "raise ValueError('a fault')": (1, "ValueError: a fault"),
}


def start(ends, **env):
    argv = [sys.executable, "-c", COMMAND.format(ends=ends)]
    return subprocess.Popen(argv, env=environment(**env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2"}


@pytest.mark.parametrize(("ends", "env"), [*((ends, LAUNCHED) for ends in ENDS), ("raise ValueError('a fault')", {})])
def test_its_status_and_all_that_it_said(ends, env):
    status, said = ENDS[ends]
    out, err = (process := start(ends, **env)).communicate(timeout=60)
    assert (process.returncode, out) == (status, "trained\nat exit\n"), err
    assert said in err
    assert ("Traceback" in err) == (status == 1)


def test_a_launched_one_whose_output_nobody_reads_has_its_status():
    with start("return", PYTHONUNBUFFERED="", **LAUNCHED) as process:
        process.stdout.close()
        process.stderr.read()
    assert process.returncode == 0


@pytest.mark.long
def test_two_processes_finish_ten_times(world, tmp_path):
    """One of ten runs was aborted by a thread that let go of a tensor too late."""
    for number in range(10):
        settings = student_settings(world, tmp_path / f"run-{number}", epochs=1, tracker="tensorboard", workers=1)
        torchrun(2, ["-m", "train_student", *as_arguments(settings)], cwd=tmp_path, env={"TMPDIR": str(tmp_path)})
        assert not list(tmp_path.glob("pld-views-*"))
