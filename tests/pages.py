"""The commands of README and docs as programs, and a folder to run them in."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.processes import ROOT, environment


def bash_blocks(document: Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def indented_blocks(document: Path) -> str:
    """The lines of all indented blocks, one after another."""
    blocks = re.findall(r"(?:^    .*\n)+", document.read_text(), re.MULTILINE)
    return "".join(line[4:] for block in blocks for line in block.splitlines(keepends=True))


def in_small(program: str, small: Mapping[str, str]) -> str:
    """The program with what it says replaced by what a test has; each must be there."""
    for stands, instead in small.items():
        assert stands in program, stands
        program = program.replace(stands, instead)
    return program


def repository(folder: Path) -> Path:
    """A folder like a clone after `make setup`: this repository's files and this interpreter's environment."""
    packages = ("pld", "cache_teacher", "train_student", "experiments", "tests")
    for name in ("Makefile", "pyproject.toml", "train_student.py", "docs", *packages):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if not path.name.startswith("ready"):
            (folder / ".venv" / path.name).symlink_to(path)
    (folder / ".venv" / "ready").touch()  # newer than what make compares it with: there is nothing to install
    return folder


def run_bash(program: str, folder: Path, timeout: float = 600) -> str:
    """What the program printed; fails with it where a command of it does."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", program],
        cwd=folder,
        env=environment(PLD_CACHE=str(folder / "cache"), MAKEFLAGS=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
