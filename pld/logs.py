"""What commands show of our packages' log records: on the console, and with `--log_file` in a file."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pld.errors import ConfigError, OutputError

Level = Literal["debug", "info", "warning", "error"]
LEVEL_HELP = "the least of what is told: debug, info, warning or error; info has progress, too"
FILE_HELP = "a file on this machine to which all processes append what they tell, with times"

# As `extra` of a record: how the console shows it. The file has all records.
AS_IT_IS = {"console": "as it is"}  # on stderr without a prefix, from the first process
FILE_ONLY = {"console": "not"}

_PACKAGES = ("pld", "cache_teacher", "train_student")
_set_up: Setup | None = None
_handlers: list[logging.Handler] = []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What is shown, and where.

    Attributes:
        level: the least.
        file: where it is written, too; None for the console alone.
    """

    level: Level = "info"
    file: str | None = None


@contextlib.contextmanager
def showing_logs() -> Iterator[None]:
    """Show our packages' records until the end, as a command does; where they are shown already, nothing changes."""
    if _set_up is not None:
        yield
        return
    set_up_logs(Setup())
    try:
        yield
    finally:
        _take_down()


def current_setup() -> Setup | None:
    """What is shown in this process, to set up the processes that it starts; None in a program of someone else's."""
    return _set_up


def set_up_logs(setup: Setup) -> None:
    """Show our packages' records so from here on. No other logger is touched; theirs no longer propagate.

    Raises:
        ConfigError: the file is behind a URL.
        OutputError: the file cannot be written.
    """
    global _set_up
    handlers: list[logging.Handler] = [_Console()]
    if setup.file is not None:
        handlers.append(_File(setup.file))
    _take_down()
    _set_up, _handlers[:] = setup, handlers
    for logger in map(logging.getLogger, _PACKAGES):
        logger.setLevel(setup.level.upper())
        logger.propagate = False
        for handler in handlers:
            logger.addHandler(handler)


def _take_down() -> None:
    global _set_up
    for logger in map(logging.getLogger, _PACKAGES):
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
        for handler in _handlers:
            logger.removeHandler(handler)
    for handler in _handlers:
        handler.close()
    _set_up, _handlers[:] = None, []


class _Console(logging.Handler):
    """Status on stdout as it is; warnings and errors on stderr, with what they are before them.

    Of a run's processes the first one says everything, the first one on each other machine warnings, which are about
    its machine, and all say errors.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rank = os.environ.get("RANK", "0")
        is_first_here = os.environ.get("LOCAL_RANK", "0") == "0"
        self._least = logging.DEBUG if self._rank == "0" else logging.WARNING if is_first_here else logging.ERROR

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is shown; asked before the handler is locked, so that a bar may log while it is drawn."""
        how = getattr(record, "console", None)
        return how != "not" and record.levelno >= self._least and (how is None or self._rank == "0")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text, how = record.getMessage(), getattr(record, "console", None)
            if how is None and record.levelno != logging.INFO:
                who = "" if self._rank == "0" else f" (process {self._rank})"
                # The whole message from the first process alone: most errors are the same in all of them.
                text = text.splitlines()[0] if who else text
                text = f"{record.levelname.lower()}{who}: {text}"
            _print(text, on_stderr=bool(how) or record.levelno >= logging.WARNING)
        except OSError:  # nobody reads it any more, as after `| head`; that stops no run
            pass
        except Exception:
            self.handleError(record)


def _print(text: str, *, on_stderr: bool) -> None:
    """A line, above the bars, which are drawn where stderr is a terminal."""
    stream = sys.stderr if on_stderr else sys.stdout
    with contextlib.ExitStack() as stack:
        if stream.isatty() and sys.stderr.isatty() and multiprocessing.parent_process() is None:
            from tqdm import tqdm

            stack.enter_context(tqdm.external_write_mode(file=stream))
        stream.write(f"{text}\n")
        stream.flush()


class _File(logging.Handler):
    """Appends each record by one write, so that several processes' lines stay whole."""

    def __init__(self, name: str) -> None:
        if "://" in name:
            raise ConfigError(f"--log_file {name}: found a URL, wanted a file on this machine")
        self._place, self._is_broken = name, False
        self._rank = f" rank {os.environ.get('RANK', '0')}" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
        try:
            Path(name).absolute().parent.mkdir(parents=True, exist_ok=True)
            self._file = Path(name).open("ab", buffering=0)  # noqa: SIM115 - open until `close`
        except OSError as error:
            raise OutputError(
                f"--log_file {name}: cannot be written: {error.strerror}; name a file that can, or leave it out"
            ) from error
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        text = f"{time} {record.levelname} {record.name}{self._rank}: {record.getMessage().strip()}\n"
        if record.exc_info:
            text += f"{logging.Formatter().formatException(record.exc_info)}\n"
        return text

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # A line of which a full disk took only the beginning ends here.
            text = ("\n" if self._is_broken else "") + self.format(record)
            left = text.encode(errors="backslashreplace")
            while left:
                left = left[self._file.write(left) :]
            self._is_broken = False
        except OSError as error:
            if not self._is_broken:
                with contextlib.suppress(OSError):
                    sys.stderr.write(f"warning: --log_file {self._place}: cannot be written: {error.strerror}\n")
            self._is_broken = True
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        super().close()
        self._file.close()
