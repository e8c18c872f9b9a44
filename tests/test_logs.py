"""What commands tell on the console, by level and process, and in a file; a library tells nothing by itself."""

import functools
import logging
import re
import subprocess
import sys

import pytest
from torch.utils.data import DataLoader, Dataset

from pld.config import run
from pld.errors import ConfigError, OutputError
from pld.loading.shared_memory import SharedMemory
from pld.loading.worker_processes import _begin
from pld.logs import AS_IT_IS, Setup, current_setup, set_up_logs, showing_logs
from pld.process.stopping import Stopped
from pld.progress import progress
from tests.processes import environment, python, torchrun
from tests.test_progress import Terminal

LOG = logging.getLogger("pld.example")
LINE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"


def tell():
    LOG.debug("a detail")
    LOG.info("goes on")
    LOG.warning("little room")
    LOG.error("no room:\nnone")
    LOG.error("stopped", extra=AS_IT_IS)


@pytest.mark.parametrize(
    ("level", "out", "err"),
    [
        ("debug", "debug: a detail\ngoes on\n", "warning: little room\nerror: no room:\nnone\nstopped\n"),
        ("info", "goes on\n", "warning: little room\nerror: no room:\nnone\nstopped\n"),
        ("warning", "", "warning: little room\nerror: no room:\nnone\nstopped\n"),
        ("error", "", "error: no room:\nnone\nstopped\n"),
    ],
)
def test_levels(console, level, out, err):
    set_up_logs(Setup(level=level))
    tell()
    assert console.readouterr() == (out, err)


@pytest.mark.parametrize(
    ("rank", "local", "err"),
    [
        ("1", "1", "error (process 1): no room:\n"),
        ("8", "0", "warning (process 8): little room\nerror (process 8): no room:\n"),  # about another machine
    ],
)
def test_other_processes_tell_what_the_first_cannot_know(capsys, monkeypatch, tmp_path, rank, local, err):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("LOCAL_RANK", local)
    monkeypatch.setenv("WORLD_SIZE", "16")
    with showing_logs():
        set_up_logs(Setup(file=str(tmp_path / "log")))
        tell()
    assert capsys.readouterr() == ("", err)
    text = (tmp_path / "log").read_text()
    assert re.fullmatch(
        rf"{LINE} INFO pld\.example rank {rank}: goes on\n{LINE} WARNING .*: little room\n"
        rf"{LINE} ERROR .*: no room:\nnone\n{LINE} ERROR .*: stopped\n",
        text,
    )


def test_a_file_is_appended_to_and_has_what_ended_the_command(tmp_path, capsys):
    path = tmp_path / "new" / "log"

    def command(error):
        def main(argv):
            set_up_logs(Setup(file=str(path)))
            with progress(100, "runs/a") as bar:
                bar.update(100)
            raise error

        return main

    assert run(command(ConfigError("no store")), []) == 2
    assert run(command(Stopped(143, "stopped by SIGTERM")), []) == 143
    with pytest.raises(ZeroDivisionError):
        run(command(ZeroDivisionError("by zero")), [])
    lines = path.read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines if re.match(LINE, line) and " ERROR " in line] == [
        "ERROR pld.config: no store",
        "ERROR pld.config: stopped by SIGTERM",
        "ERROR pld.config: an error that is not the user's",
    ]
    assert lines[-1] == "ZeroDivisionError: by zero"
    assert sum("INFO pld.progress: runs/a: 100 % " in line for line in lines) == 3
    printed = capsys.readouterr().err
    assert "error: no store\n" in printed
    assert "by zero" not in printed  # Python prints it


def test_a_terminal_has_its_bar_and_the_file_its_lines(tmp_path, capsys, monkeypatch):
    out, err = Terminal(sys.stdout), Terminal(sys.stderr)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    with showing_logs():
        set_up_logs(Setup(file=str(tmp_path / "log")))
        with progress(100, "runs/a") as bar:
            bar.update(50)
            drawn = len(err.text)
            LOG.info("goes on")
    assert out.text == "goes on\n"
    # The bar is cleared, and drawn again below the line.
    assert re.match(r"\r +\r\rruns/a: ", err.text[drawn:])
    assert re.fullmatch(rf"{LINE} INFO pld\.progress: runs/a: 0 % .*\n{LINE} INFO .*: goes on\n",
                        (tmp_path / "log").read_text())  # fmt: skip


def test_files_that_cannot_be_written(tmp_path, console):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "log"):
        with pytest.raises(OutputError, match=f"--log_file {place}: cannot be written: .*; name a file that can"):
            set_up_logs(Setup(file=str(place)))
    with pytest.raises(ConfigError, match="found a URL, wanted a file on this machine"):
        set_up_logs(Setup(file="s3://bucket/log"))
    assert current_setup() == Setup()
    # One that fills its disk stops nothing, and is told once.
    set_up_logs(Setup(file="/dev/full"))
    LOG.info("one")
    LOG.info("two")
    assert console.readouterr() == (
        "one\ntwo\n",
        "warning: --log_file /dev/full: cannot be written: No space left on device\n",
    )


def test_a_reader_that_has_left_stops_nothing(tmp_path):
    program = """
import logging, time
from pld.logs import showing_logs
with showing_logs():
    for _ in range(20_000):
        logging.getLogger("pld").info("a line that is long enough to fill the pipe some time")
import os
os.close(1)
open("done", "w").close()
"""
    command = f"'{sys.executable}' -c '{program}' | head -n 1"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment(), check=True, capture_output=True)
    assert (tmp_path / "done").exists()


def test_a_library_configures_nothing(tmp_path):
    program = """
import logging
before = list(logging.root.handlers), logging.root.level, logging.lastResort
import cache_teacher, pld.config, pld.process.stopping, pld.progress, train_student
assert (logging.root.handlers, logging.root.level, logging.lastResort) == before
for name in ("pld", "cache_teacher", "train_student"):
    (handler,) = logging.getLogger(name).handlers
    assert type(handler) is logging.NullHandler
    assert logging.getLogger(name).propagate
    assert logging.getLogger(name).level == logging.NOTSET
logging.getLogger("pld.example").warning("nobody asked")
logging.basicConfig(level="INFO", format="mine: %(message)s")
logging.getLogger("pld.example").info("asked")
"""
    done = python("-c", program, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "mine: asked\n")


class Telling(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        LOG.info("item %d", index)
        return index


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
def test_worker_processes_tell_everything_once(tmp_path, capfd, context):
    with showing_logs():
        set_up_logs(Setup(file=str(tmp_path / "log")))
        start = functools.partial(_begin, SharedMemory(1), current_setup())
        loader = DataLoader(
            Telling(), batch_size=None, num_workers=1, multiprocessing_context=context, worker_init_fn=start
        )
        assert len(list(loader)) == 2
    assert capfd.readouterr().out == "item 0\nitem 1\n"
    assert re.findall(r"INFO pld\.example: (.*)$", (tmp_path / "log").read_text(), re.MULTILINE) == ["item 0", "item 1"]


def test_an_error_of_one_process_alone_has_its_number(tmp_path):
    (tmp_path / "command.py").write_text(
        """
import os, sys
from pld.config import run
from pld.errors import DataError
from pld.logs import Setup, set_up_logs

def main(argv):
    set_up_logs(Setup(file="log"))
    if os.environ["RANK"] == "1":
        raise DataError("sample a: is broken")

sys.exit(run(main))
"""
    )
    failed = torchrun(2, ["command.py"], cwd=tmp_path, check=False)
    assert failed.returncode
    assert "error (process 1): sample a: is broken\n" in failed.stderr
    assert re.fullmatch(rf"{LINE} ERROR pld\.config rank 1: sample a: is broken\n", (tmp_path / "log").read_text())
