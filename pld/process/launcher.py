"""The launcher of a process, accelerate or torchrun, which lives as long as what it launched: found, and watched."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_SCRIPTS = ("accelerate", "accelerate-launch", "torchrun")
_MODULES = ("accelerate.commands.launch", "accelerate.commands.accelerate_cli", "torch.distributed.run")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launcher:
    """What launched this process, itself or by a script or another program between them.

    Attributes:
        words: its command line; empty where it could not be read.
        line: the numbers of this process, its parent, that one's, ..., and the launcher; empty where it ended before.
    """

    words: list[str]
    line: list[int]

    def has_ended(self) -> bool:
        """Whether it is gone, or a process between it and this one is: those whose parent ends get another one."""
        return not self.line or any(_parent(child) != parent for child, parent in itertools.pairwise(self.line))


def find_launcher() -> Launcher | None:
    """What launched this process; None where nothing did that ends with it."""
    line = [os.getpid()]
    for ancestor in _ancestors(line[0]):
        line.append(ancestor)
        if words := launcher_words(ancestor):
            return Launcher(words=words, line=line)
        if _is_python(ancestor):
            break  # a program that runs commands of its own, or a launcher of its own
    if not is_torchruns():
        return None
    # torchrun may be in this line and just ending: its command line is gone, while its children are still its own.
    return Launcher(words=[], line=[] if _is_orphan(line[0]) else line)


def is_torchruns() -> bool:
    """Whether torchrun launched this process, or accelerate by way of it."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launcher_words(process: int) -> list[str] | None:
    """The command line of a process if it is accelerate's or torchrun's."""
    words = _words(process)
    is_script = any(Path(word).name in _SCRIPTS for word in words[:2])
    is_module = any(option == "-m" and module in _MODULES for option, module in itertools.pairwise(words))
    return words if is_script or is_module else None


def _is_orphan(process: int) -> bool:
    """Whether torchrun ended before it could be found.

    That is so if nothing above can be a launcher, which needs torch. The first process, or one that takes orphans in,
    may be Python too.
    """
    if not Path("/proc/self/maps").exists():
        return False
    return not any(_is_python(each) and _may_hold_torch(each) for each in _ancestors(process))


def _may_hold_torch(process: int) -> bool:
    try:
        return "libtorch" in Path(f"/proc/{process}/maps").read_text(errors="surrogateescape")
    except OSError:  # another user's
        return True


def _is_python(process: int) -> bool:
    return any("python" in Path(word).name for word in _words(process)[:1])


def _ancestors(process: int) -> Iterator[int]:
    """A process's parent, that one's, and so on."""
    while (process := _parent(process)) > 0:
        yield process


def _parent(process: int) -> int:
    """The number of a process's parent; 0 where there is none, or the system does not tell."""
    if process == os.getpid():
        return os.getppid()
    try:
        # The name, in parentheses, may have spaces.
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _words(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_text(errors="surrogateescape").split("\0")[:-1]
    except OSError:  # not Linux
        shown = subprocess.run(["ps", "-o", "args=", "-p", str(process)], capture_output=True, text=True, check=False)
        return shown.stdout.split()
