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
from pld.provenance import git_commit

_TAIL_CHARACTERS = 2_000
# Results grow while the study runs, which does not depend on them.
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
    # The interpreter's own commands first; one thread, with which sums come out the same whatever else runs.
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": programs, "OMP_NUM_THREADS": "1"}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            done = subprocess.run(shlex.split(command), stdout=file, stderr=file, env=environment, check=False)
    if done.returncode:
        end = path.read_text(errors="replace")[-_TAIL_CHARACTERS:]
        raise PLDError(f"{command}\nended with {done.returncode}; the end of {path}:\n{end}")


def code_commit() -> str | None:
    """The commit that is checked out, with `+changes` where anything but results differs; None outside a repository."""
    commit = git_commit()
    if commit is None:
        return None
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ".", _NOT_CODE], check=False).returncode
    return commit.removesuffix("+changes") + ("+changes" if changed else "")
