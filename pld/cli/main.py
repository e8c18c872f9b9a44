"""`pld COMMAND ...`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pld.cli import card, convert, data, export, inspect, landscape, pull, push, report, verify
from pld.config import add_completion, run

_COMMANDS = {
    "card": card,
    "convert": convert,
    "data": data,
    "export": export,
    "inspect": inspect,
    "landscape": landscape,
    "pull": pull,
    "push": push,
    "report": report,
    "verify": verify,
}


def main() -> int:
    """Exit status of the command."""
    return run(_main)


def _main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="pld", description="Look at datasets, stores and runs.")
    add_completion(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        summary = (module.__doc__ or "").strip().splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(execute=module.execute)
    arguments = parser.parse_args(argv)
    arguments.execute(arguments)
