"""Stop a command on SIGTERM, SIGINT, SIGUSR1 or its launcher's end: at once, or later, where it saves first."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import multiprocessing
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pld.logs import AS_IT_IS

_LOG = logging.getLogger(__name__)

# SLURM warns with SIGUSR1 if it is asked to.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
TERMINATED, INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT
_POLL_SECONDS = 0.5
# A main thread that waits in C, or a thread that still reads, is not waited for any longer.
_GRACE_SECONDS = 10.0
# Some programs forward a Ctrl-C that the terminal has sent to their children already: that is one, not two.
_SAME_SECONDS = 0.5
_SAY_SECONDS = 1.0
_SECOND = "ended by a second Ctrl-C; what was done since the last checkpoint is lost"
_LAUNCHER_ENDED = "the end of its launcher"
_SCRIPTS = ("accelerate", "accelerate-launch", "torchrun")
_MODULES = ("accelerate.commands.launch", "accelerate.commands.accelerate_cli", "torch.distributed.run")


class Stopped(SystemExit):
    """A command that was asked to stop has stopped.

    Attributes:
        status: of the process: 130 after SIGINT, else 143.
        message: what stopped it, what is saved, and how to go on.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status)
        self.status, self.message = status, message


class Stopping:
    """Handles the signals that ask this process to stop, for as long as it is entered, in the main thread.

    At first they raise `Stopped` in the main thread, wherever it is. After `defer`, they only set `status`. A second
    Ctrl-C ends the process at once either way. A thread sees to what the main thread cannot while it waits in C.

    Attributes:
        status: the exit status that was asked for; 0 while nothing asked.
        cause: what asked, for messages.
        options: what the command needs besides its own arguments to go on.
    """

    def __init__(self, kept: str = "") -> None:
        """Nothing is handled yet.

        Args:
            kept: what is true wherever `Stopped` is raised, for its message.
        """
        self.status, self.cause = 0, ""
        self.options: Sequence[str] = ()
        self._kept = kept
        self._asked = threading.Event()
        self._is_deferred = False
        self._deadline = math.inf

    def __enter__(self) -> Stopping:
        self._parent = os.getppid()
        self._launcher = find_launcher(self._parent)
        self._told, self._tells = socket.socketpair()
        self._tells.setblocking(False)
        # A SIGINT that is ignored is another job's, which the terminal runs in the foreground.
        self._before = {each: signal.getsignal(each) for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN}
        self._wakeup_before = signal.set_wakeup_fd(self._tells.fileno(), warn_on_full_buffer=False)
        for each in self._before:
            signal.signal(each, self._handle)
        threading.Thread(target=self._watch, name="stopping", daemon=True).start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, Stopped):  # raised where the command itself had not begun
            _say(error.message)
        signal.set_wakeup_fd(self._wakeup_before)
        for each, handler in self._before.items():
            # Launchers ask their other processes to end when the first one has; this one does.
            signal.signal(each, signal.SIG_IGN if self.status else handler)
        if self.status:  # threads that still load something may not keep the process
            self._is_deferred, self._deadline = True, time.monotonic() + _GRACE_SECONDS
        else:
            self._tells.close()  # ends the thread

    def defer(self) -> None:
        """From here on nothing is raised: who trains asks for `status` where it can save."""
        self._is_deferred = True

    def wait(self, seconds: float) -> bool:
        """Whether the process is asked to stop within so many seconds."""
        return self._asked.wait(seconds)

    def adopt(self, status: int, cause: str) -> None:
        """Stop as another process of the same run was asked to, unless this one was asked itself."""
        if not self.status:
            self.status, self.cause = status, cause
            self._asked.set()

    def stopped(self, what: str) -> Stopped:
        """The exception to raise; its message says what stopped the command and how to go on.

        Args:
            what: the command stopped at, and what is saved.
        """
        return Stopped(
            self.status,
            f"stopped by {self.cause}{what}; go on with: {_go_on(self._launcher or sys.orig_argv, self.options)}",
        )

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.status:
            return
        self.status = INTERRUPTED if number == signal.SIGINT else TERMINATED
        self.cause = self.cause or signal.Signals(number).name
        self._asked.set()
        if not self._is_deferred:
            raise self.stopped(f": {self._kept}")

    def _watch(self) -> None:
        """Of the watching thread: end the process where the main thread does not."""
        asked_at = interrupted_at = math.inf
        has_launcher = self._launcher is not None or _is_orphan(self._parent)
        is_orphan = has_launcher and self._launcher is None
        while (numbers := self._read_signals()) is not None:
            now = time.monotonic()
            for number in numbers:
                if number in SIGNALS:
                    asked_at = min(asked_at, now)
                if number == signal.SIGINT:
                    if now - interrupted_at > _SAME_SECONDS:
                        _end_now(INTERRUPTED, _SECOND)
                    if self._is_deferred and interrupted_at == math.inf:
                        _say("stops and saves after this step; Ctrl-C again ends at once", logging.WARNING)
                    interrupted_at = min(interrupted_at, now)
            if has_launcher and (is_orphan or os.getppid() != self._parent):
                has_launcher = False
                # Only a second Ctrl-C ends torchrun before its processes; accelerate alone ends by the first.
                if interrupted_at < math.inf and "TORCHELASTIC_RUN_ID" in os.environ:
                    _end_now(INTERRUPTED, _SECOND)
                self.cause = self.cause or _LAUNCHER_ENDED
                os.kill(os.getpid(), signal.SIGTERM)
            is_unheard = now - asked_at > _GRACE_SECONDS and not self._is_deferred
            if is_unheard or now > self._deadline:
                _end_now(self.status or TERMINATED, f"stopped: {self._kept}" if is_unheard else "")

    def _read_signals(self) -> bytes | None:
        """The signals that came meanwhile; None where no more are handled."""
        if not select.select([self._told], [], [], _POLL_SECONDS)[0]:
            return b""
        numbers = self._told.recv(64)
        if not numbers:
            self._told.close()
        return numbers or None


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold these signals back until the end; processes started meanwhile begin with them held back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent() -> None:
    """In a process that was started with signals held back: ignore what its parent handles, but SIGTERM."""
    signal.set_wakeup_fd(-1)
    for each in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def find_launcher(process: int) -> list[str] | None:
    """The command line of a process if it is accelerate's or torchrun's, which live as long as what they launched."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_text(errors="surrogateescape").split("\0")[:-1]
    except OSError:  # not Linux
        shown = subprocess.run(["ps", "-o", "args=", "-p", str(process)], capture_output=True, text=True, check=False)
        words = shown.stdout.split()
    is_script = any(Path(word).name in _SCRIPTS for word in words[:2])
    is_module = any(option == "-m" and module in _MODULES for option, module in itertools.pairwise(words))
    return words if is_script or is_module else None


def _is_orphan(parent: int) -> bool:
    """Whether torchrun ended before it could be found; a container's first process may be a launcher in Python."""
    with contextlib.suppress(OSError):
        is_python = "python" in Path(f"/proc/{parent}/cmdline").read_text(errors="surrogateescape").split("\0")[0]
        return parent == 1 and "TORCHELASTIC_RUN_ID" in os.environ and not is_python
    return False


def _go_on(words: Sequence[str], options: Sequence[str]) -> str:
    """A command line as one types it: without a script's interpreter, and without the folder of what is on PATH."""
    if len(words) > 1 and shutil.which(Path(words[1]).name) == words[1]:
        words = words[1:]
    first = Path(words[0]).name
    return shlex.join([first if shutil.which(first) == words[0] else words[0], *words[1:], *options])


def _end_now(status: int, message: str) -> NoReturn:
    """End this process and those that it has started; nothing else is done."""
    for child in multiprocessing.active_children():
        child.kill()
    if message:
        _say(message)
    os._exit(status)


def _say(message: str, level: int = logging.ERROR) -> None:
    """Not in the main thread's signal handler, which may have interrupted a print."""
    # In a thread: where a terminal or a log's disk hangs, whoever holds their locks must not hold this up.
    words, how = (level, "\n%s", message), {"extra": AS_IT_IS}
    saying = threading.Thread(target=_LOG.log, args=words, kwargs=how, daemon=True)
    saying.start()
    saying.join(_SAY_SECONDS)
