"""The owner of a lock: which process of which machine has it, and whether that is still alive."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import socket
import uuid
from pathlib import Path

import msgspec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds a lock.

    Attributes:
        host: its name.
        space: of process numbers: the machine's boot and the container's, as far as the system tells.
        process: its number there.
        started: when the system started it, in the system's own words; "" where it does not tell.
        since: when it took the lock, as text.
        token: of this holder alone.
    """

    host: str
    space: str
    process: int
    started: str
    since: str
    token: str

    @classmethod
    def this_process(cls) -> Owner:
        """This process, from now on."""
        return cls(
            host=socket.gethostname(),
            space=_process_space(),
            process=os.getpid(),
            started=_started(os.getpid()),
            since=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            token=uuid.uuid4().hex,
        )

    @property
    def is_local(self) -> bool:
        """Whether its process number is one of this machine and container."""
        return (self.host, self.space) == (socket.gethostname(), _process_space())

    def lives(self) -> bool:
        """Whether the process is still there; of one that `is_local`."""
        try:
            os.kill(self.process, 0)
        except (ProcessLookupError, OverflowError):  # or no process's number
            return False
        except PermissionError:
            return True  # another user's
        return _started(self.process) == self.started and not _is_zombie(self.process)


def read_owner(path: Path) -> Owner | None:
    """Who a file names; None where it is gone or cannot be understood. Raises OSError if it cannot be read."""
    try:
        return decode_owner(path.read_bytes())
    except FileNotFoundError:
        return None


def decode_owner(text: bytes) -> Owner | None:
    """Who a lock's text names; None where it cannot be understood."""
    try:
        return msgspec.json.decode(text, type=Owner)
    except msgspec.MsgspecError:
        return None


def _process_space() -> str:
    """What process numbers are of: the machine's boot and the container's, on Linux."""
    with contextlib.suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _started(process: int) -> str:
    """When a process started, in ticks since the machine's boot; "" where the system does not tell."""
    return next(iter(_status(process)[19:]), "")


def _is_zombie(process: int) -> bool:
    """Whether a process has ended and nobody has asked how, as in containers whose first process does not."""
    return _status(process)[:1] in (["Z"], ["X"])


def _status(process: int) -> list[str]:
    """What the system says of a process, from its state on; nothing where it does not tell."""
    try:
        # The name, in parentheses, may have spaces.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
