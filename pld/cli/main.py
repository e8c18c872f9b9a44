"""`pld COMMAND ...`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence

from pld.cli import convert, copy, data, evaluate, export, inspect, landscape, ls, report, rm, verify
from pld.config import add_completion, run

# What each does, what adds its arguments, what runs it.
_COMMANDS: dict[str, tuple[str | None, Callable[..., None], Callable[..., None]]] = {
    "card": (copy.card.__doc__, copy.add_card_arguments, copy.card),
    "pull": (copy.pull.__doc__, copy.add_pull_arguments, copy.pull),
    "push": (copy.push.__doc__, copy.add_push_arguments, copy.push),
}
for _module in (convert, data, evaluate, export, inspect, landscape, ls, report, rm, verify):
    _COMMANDS[_module.__name__.rpartition(".")[2]] = (_module.__doc__, _module.add_arguments, _module.execute)


def main() -> int:
    """Run a command and return its exit status; SIGPIPE's if the reader of its output has closed, as `| head` does."""
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
    for name, (summary, add_arguments, execute) in sorted(_COMMANDS.items()):
        summary = (summary or "").strip().splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        add_arguments(command)
        command.set_defaults(execute=execute)
    arguments = parser.parse_args(argv)
    arguments.execute(arguments)
