"""What a machine or container has left: memory, /dev/shm, descriptors of open files. Nothing here changes it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("sys/fs/cgroup")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """What there is for this process.

    Attributes:
        memory_bytes: this process's share of the free memory, without swap, as each of those that a launcher started on
            this machine takes as much; None where the system does not tell.
        memory_of: whose memory that is, for messages.
        shm_bytes: its share of what is free in /dev/shm; None where there is none.
        open_files: descriptors that are open.
        most_open_files: how many may be, the soft limit.
        hard_open_files: how far the process may raise that.
    """

    memory_bytes: int | None
    memory_of: str
    shm_bytes: int | None
    open_files: int
    most_open_files: int
    hard_open_files: int

    @classmethod
    def now(cls) -> Machine:
        """What there is at the moment."""
        memory, processes = free_memory(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        shm = Path("/dev/shm")
        return cls(
            memory_bytes=memory[0] // processes if memory else None,
            memory_of=memory[1] if memory else "",
            shm_bytes=shutil.disk_usage(shm).free // processes if shm.is_dir() else None,
            open_files=len(list(Path("/dev/fd").iterdir())),
            most_open_files=_or_unlimited(soft),
            hard_open_files=_or_unlimited(hard),
        )


def free_memory(root: Path = Path("/")) -> tuple[int, str] | None:
    """The bytes of memory that are free, and whose: the machine's, or a smaller rest of a control group's limit.

    Pages of files that were read count as free, since the system gives them up. Swap does not count: batches that are
    swapped out are no use.

    Args:
        root: of the file system.
    """
    found = list(_free_in_groups(root))
    with contextlib.suppress(OSError, KeyError, ValueError):
        found.append((_numbers(root / "proc/meminfo")["MemAvailable:"] * 1024, "this machine"))
    return min(found, default=None)


def _free_in_groups(root: Path) -> Iterator[tuple[int, str]]:
    """What is left of the limits of this process's control group and of those above it, in cgroup v2 and v1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _free_above(root / _CGROUPS, path, "memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            group = root / _CGROUPS / "memory"
            yield from _free_above(group, path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def _free_above(top: Path, path: str, limit: str, used: str, prefix: str) -> Iterator[tuple[int, str]]:
    """For each group with a limit, from one upwards; in a container the path may be another's, and the top is its own.

    Args:
        top: where the hierarchy is mounted.
        path: the group's in it.
        limit: the name of the file with the limit.
        used: of the file with what is used.
        prefix: of the names in memory.stat that include the groups below.
    """
    group = top / path.lstrip("/")
    for each in [group, *group.parents]:
        if not each.is_relative_to(top):
            return
        with contextlib.suppress(OSError, ValueError, KeyError):  # "max", or not a group of this container
            most, now = int((each / limit).read_text()), int((each / used).read_text())
            statistics = _numbers(each / "memory.stat")
            files = statistics[f"{prefix}inactive_file"] + statistics[f"{prefix}active_file"]
            yield max(0, most - now + files), "this container or job (cgroup)"


def _numbers(path: Path) -> dict[str, int]:
    """The lines of a file of names and numbers."""
    return {words[0]: int(words[1]) for words in map(str.split, path.read_text().splitlines()) if len(words) > 1}


def _or_unlimited(limit: int) -> int:
    return 2**31 if limit == resource.RLIM_INFINITY else limit
