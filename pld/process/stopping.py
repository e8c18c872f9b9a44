"""Stop a command on SIGTERM, SIGINT, SIGUSR1, SIGHUP or its launcher's end: at once, or later, where it saves first."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import select
import shlex
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pld.logs import AS_IT_IS
from pld.process.launcher import Launcher, find_launcher, is_torchruns

_LOG = logging.getLogger(__name__)

# SLURM warns with SIGUSR1 if it is asked to; a terminal that closes sends SIGHUP, which nohup has ignored.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
TERMINATED, INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT
_POLL_SECONDS = 0.5
# A main thread that waits in C, or a thread that still reads, is not waited for any longer.
_GRACE_SECONDS = 10.0
# After its launcher's end a deferred stop waits so long for a step, which may need other processes that are gone, too.
# Longer than honest steps take, also those that compile.
_STEP_SECONDS = 300.0
# Some programs forward a Ctrl-C that the terminal has sent to their children already: that is one, not two.
_SAME_SECONDS = 0.5
_SAY_SECONDS = 1.0
_SECOND = "ended by a second Ctrl-C; what was done since the last checkpoint is lost"
_STUCK = "ended: its launcher is gone, and a step did not end; steps since the last checkpoint are lost"
_LAUNCHER_ENDED = "the end of its launcher"


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
        self._is_finishing, self._advanced_at = False, 0.0
        self._launcher: Launcher | None = None

    def __enter__(self) -> Stopping:
        self._launcher = find_launcher()
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

    def advance(self) -> None:
        """A step has ended: after `defer`, a process without its launcher is ended if this is not said for long."""
        self._advanced_at = time.monotonic()

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """What is done is no step: it is waited for, however long it takes."""
        was_finishing, self._is_finishing = self._is_finishing, True
        try:
            yield
        finally:
            self.advance()
            self._is_finishing = was_finishing

    def finish(self) -> None:
        """No step is left: what has been trained is saved, which is waited for, however long it takes."""
        self._is_finishing = True

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
        return Stopped(self.status, f"stopped by {self.cause}{what}; go on with: {self._go_on()}")

    def _go_on(self) -> str:
        """The command line as one types it: without a script's interpreter, and without a folder that is on PATH."""
        words = (self._launcher and self._launcher.words) or sys.orig_argv
        if len(words) > 1 and shutil.which(Path(words[1]).name) == words[1]:
            words = words[1:]
        first = Path(words[0]).name
        return shlex.join([first if shutil.which(first) == words[0] else words[0], *words[1:], *self.options])

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
        asked_at = interrupted_at = orphan_at = math.inf
        while (numbers := self._read_signals()) is not None:
            now = time.monotonic()
            for number in numbers:
                if number in SIGNALS:
                    asked_at = min(asked_at, now)
                # torchrun passes the first Ctrl-C on as it is, and the second as SIGTERM.
                is_again = number == signal.SIGINT or (number == signal.SIGTERM and is_torchruns())
                if is_again and now - interrupted_at > _SAME_SECONDS:
                    _end_now(INTERRUPTED, _SECOND)
                if number == signal.SIGINT:
                    if self._is_deferred and interrupted_at == math.inf:
                        _say("stops and saves after this step; Ctrl-C again ends at once", logging.WARNING)
                    interrupted_at = min(interrupted_at, now)
            if self._launcher and orphan_at == math.inf and self._launcher.has_ended():
                orphan_at = now
                # Only a second Ctrl-C ends torchrun before its processes; accelerate alone ends by the first.
                if interrupted_at < math.inf and is_torchruns():
                    _end_now(INTERRUPTED, _SECOND)
                self.cause = self.cause or _LAUNCHER_ENDED
                os.kill(os.getpid(), signal.SIGTERM)
            if now - asked_at > _GRACE_SECONDS and not self._is_deferred:
                _end_now(self.status or TERMINATED, f"stopped: {self._kept}")
            if now - max(orphan_at, self._advanced_at) > _STEP_SECONDS and not self._is_finishing:
                _end_now(self.status or TERMINATED, f"{_STUCK}; go on with: {self._go_on()}")
            if now > self._deadline:
                _end_now(self.status, "")

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
    for each in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


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
