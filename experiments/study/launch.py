"""Commands in processes of their own, with a log each, and the commit that they ran at."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from experiments.study.config import WORK
from pld.errors import PLDError
from pld.files import writing

_TAIL_CHARACTERS = 2_000
# Results grow while the study runs; they are not what it runs.
_NOT_CODE = ":(exclude)docs/results"


def launch(command: str, log: str) -> None:
    """Run a command on one core.

    Args:
        command: as a user types it, in the repository's root.
        log: the name of its log in runs/study/logs.

    Raises:
        PLDError: it failed; shows the end of its log.
    """
    path = WORK / "logs" / f"{log}.log"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            done = subprocess.run(shlex.split(command), stdout=file, stderr=file, env=_environment(), check=False)
    if done.returncode:
        raise PLDError(f"{command}\nended with {done.returncode}; the end of {path}:\n{_end(path)}")


def code_commit() -> str | None:
    """The commit that is checked out, with `+changes` where anything but results differs; None outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", _NOT_CODE)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def _environment() -> dict[str, str]:
    """The interpreter's own commands first; one thread, with which sums come out the same whatever else runs."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-_TAIL_CHARACTERS:]
