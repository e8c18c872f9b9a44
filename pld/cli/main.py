"""`pld COMMAND ...`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pld.cli import card, convert, copy, data, export, inspect, landscape, report, verify
from pld.config import add_completion, run

# What it does, how its arguments are added, what runs it.
_Command = tuple[str | None, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], None]]


def _command(module: Any) -> _Command:
    return module.__doc__, module.add_arguments, module.execute


_COMMANDS = {
    "card": _command(card),
    "convert": _command(convert),
    "data": _command(data),
    "export": _command(export),
    "inspect": _command(inspect),
    "landscape": _command(landscape),
    "pull": (copy.pull.__doc__, copy.add_pull_arguments, copy.pull),
    "push": (copy.push.__doc__, copy.add_push_arguments, copy.push),
    "report": _command(report),
    "verify": _command(verify),
}


def main() -> int:
    """Exit status of the command: SIGPIPE's where the reader of its output is gone, as with `| head`."""
    try:
        try:
            return run(_main)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes what is left at exit, and would print that it cannot.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="pld", description="Look at datasets, stores and runs.")
    add_completion(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (summary, add_arguments, execute) in _COMMANDS.items():
        summary = (summary or "").strip().splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        add_arguments(command)
        command.set_defaults(execute=execute)
    arguments = parser.parse_args(argv)
    arguments.execute(arguments)
