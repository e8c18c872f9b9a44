"""Training in processes of its own, under each launcher, that is held at some moment and asked to stop."""

import contextlib
import dataclasses
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.processes import environment
from tests.train_student.runs import as_arguments

_ACCELERATE = ["-m", "accelerate.commands.launch", "--mixed_precision", "no", "--dynamo_backend", "no"]
_ACCELERATE += ["--num_machines", "1"]
LAUNCHERS = {
    "python": [],
    "accelerate": [*_ACCELERATE, "--cpu", "--num_processes", "1", "-m"],
    "accelerate-2": [*_ACCELERATE, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m"],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"],
}
ALONE = ("python", "accelerate")  # these train in one process


@dataclasses.dataclass
class Launched:
    """A run in processes of its own.

    Attributes:
        process: the launcher, or the trainer where there is none; leads a session.
        trainer: the process that is held; the last one.
    """

    process: subprocess.Popen
    trainer: psutil.Process | None
    family: list[psutil.Process]

    def end(self) -> tuple[int, str]:
        """The exit status, as shells have it, and what was printed; none of its processes is left."""
        _, printed = self.process.communicate(timeout=90)
        _, alive = psutil.wait_procs(self.family, timeout=60)
        for each in alive:
            each.kill()
        assert not alive
        status = self.process.returncode
        return 128 - status if status < 0 else status, printed


def launch(launcher, log: Path, settings, *, hold="", wrapper=(), **env) -> Launched:
    """Start a run, and wait until it is held, if it is to be."""
    words = [*(["-m"] if launcher == "python" else []), "tests.train_student.recording", str(log)]
    argv = [*wrapper, sys.executable, *LAUNCHERS[launcher], *words, *as_arguments(settings)]
    process = subprocess.Popen(
        argv,
        env=environment(HOLD=hold, **env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if not hold:
        return Launched(process, None, [])
    held = log.with_suffix(".held")
    wait_until(lambda: (held.exists() and held.read_text()) or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1]
    parent = psutil.Process(process.pid)
    family = [parent, *parent.children(recursive=True)]
    pid = int(held.read_text())
    trainer = next((each for each in family if each.pid == pid), family[-1])
    return Launched(process, trainer, [*family, *trainer.children(recursive=True)])


def wait_until(happened, seconds=120):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def send(run: Launched, number: int, to: str) -> None:
    """Send a signal to the launcher, the trainer (the last one), or all processes, as terminals and schedulers do."""
    targets = {"launcher": run.family[:1], "trainer": [run.trainer], "all": run.family}[to]
    for each in targets:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(number)


def checkpoints(folder: Path) -> list[int]:
    """The steps of the checkpoints; nothing else lies there."""
    return sorted(int(re.fullmatch(r"step-(\d+)\.safetensors", path.name)[1]) for path in folder.glob("checkpoints/*"))


def go_on(printed: str, cwd: Path, **env) -> subprocess.CompletedProcess:
    """Run the command that a stopped run says goes on."""
    command = re.findall(r"; go on with: (.*)", printed)[0]  # torchrun repeats what its processes say
    return subprocess.run(
        shlex.split(command), cwd=cwd, env=environment(**env), capture_output=True, text=True, check=True, timeout=300
    )


SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 143}
