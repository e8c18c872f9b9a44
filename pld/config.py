"""Configuration: a frozen dataclass, overridden by a YAML file and by `--key value`; jsonargparse does the parsing."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import itertools
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import shtab
from jsonargparse import ArgumentParser

from pld.errors import ConfigError, PLDError

Config = TypeVar("Config")


class _Parser(ArgumentParser):
    """Raises ConfigError, with the nearest option, where argparse would print every option there is and exit."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(self._explain(message))

    def _explain(self, message: str) -> str:
        unknown = re.search(r"[Oo]ption '([\w.]+)' is not accepted|unrecognized arguments: -*(\S+)", message)
        if unknown is None:
            return message
        name = next(group for group in unknown.groups() if group)
        options = [action.dest for action in self._actions]
        near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
        return f"unknown option {name!r}; nearest are {', '.join(near) or 'none'} (see --help)"


def parse_config(
    kind: type[Config], argv: Sequence[str], *, prog: str, description: str, named_files: Path | None = None
) -> Config:
    """Build a configuration from command-line arguments.

    `--config FILE` reads YAML; later arguments override it; `--print_config` prints the outcome and exits. Dashes
    and underscores in an option's name are the same, and a true-or-false option may stand alone: `--online-teacher`.
    An option that takes a list may be given once for each value.

    Args:
        kind: a frozen dataclass; its docstring's Attributes describe the options.
        argv: without the program's name.
        prog: the program's name, for --help.
        description: for --help.
        named_files: a folder of YAML files that `--config NAME` may name without path and extension.

    Raises:
        ConfigError: an unknown option (with the nearest ones), a missing file, a value of another type.
    """
    parser = _Parser(prog=prog, description=description, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file of options" + _names(named_files))
    add_completion(parser)
    parser.add_class_arguments(kind, as_group=False)
    types = {field.name: str(field.type) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    switches = {name for name, type in types.items() if type in ("bool", str(bool))}
    lists = {name for name, type in types.items() if "list[" in type}
    namespace = parser.parse_args(_gathered(_normalized(argv, switches, named_files), lists))
    del namespace["config"]
    return kind(**namespace.as_dict())


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Give a parser `--print_completion SHELL`."""
    parser.add_argument(
        "--print_completion",
        action=shtab.completion_action(parser),
        choices=shtab.SUPPORTED_SHELLS,
        default=argparse.SUPPRESS,
        metavar="SHELL",
        help=f'print a completion script and exit; in ~/.bashrc: eval "$({parser.prog} --print_completion bash)"',
    )


def _file_names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)).removesuffix(".yaml") for path in folder.rglob("*.yaml"))


def _names(folder: Path | None) -> str:
    """For --help: each name, or a folder's number of names."""
    if folder is None:
        return ""
    groups = Counter(f"{name.partition('/')[0]}/..." if "/" in name else name for name in _file_names(folder))
    return ", or one of: " + ", ".join(f"{name} ({n})" if "/" in name else name for name, n in groups.items())


def _normalized(argv: Sequence[str], switches: set[str], named_files: Path | None) -> list[str]:
    """Options spelled as jsonargparse wants them."""
    result: list[str] = []
    for argument, following in itertools.pairwise([*argv, "--"]):
        if re.match(r"--?[A-Za-z]", argument) and argument != "-h":
            name, equals, value = argument.lstrip("-").partition("=")
            name = name.replace("-", "_")
            result += [f"--{name}", _named(name, value, named_files)] if equals else [f"--{name}"]
            if name in switches and not equals and following.startswith("-"):
                result.append("true")
        else:
            result.append(_named(result[-1].removeprefix("--") if result else "", argument, named_files))
    return result


def _gathered(argv: list[str], lists: set[str]) -> list[str]:
    """Options of several values that are given more than once, as one list in the last one's place."""
    for name in lists:
        places = [index for index, word in enumerate(argv[:-1]) if word == f"--{name}"]
        if len(places) > 1:
            argv[places[-1] + 1] = json.dumps([argv[place + 1] for place in places])
            argv = [
                word for index, word in enumerate(argv) if index not in {p + i for p in places[:-1] for i in (0, 1)}
            ]
    return argv


def _named(option: str, value: str, folder: Path | None) -> str:
    """The value of `--config`, if it is the name of a file in the folder, as that file's path; else as it is."""
    if folder is None or option != "config":
        return value
    known = folder / f"{value}.yaml"
    if not known.is_file() and not Path(value).is_file():
        near = difflib.get_close_matches(value, _file_names(folder), n=3, cutoff=0.5)
        raise ConfigError(
            f"--config {value}: neither a file nor a recipe's name; nearest are {', '.join(near) or 'none'}"
        )
    return str(known) if known.is_file() else value


# What shells report of a command that SIGINT ended.
_INTERRUPTED = 130


def run(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run `main(argv)`; an error that the user can mend is printed in place of a traceback and exits with 2."""
    try:
        main(sys.argv[1:] if argv is None else argv)
    except PLDError as error:
        print(_described(error, int(os.environ.get("RANK", "0"))), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command again goes on where it was", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _described(error: PLDError, rank: int) -> str:
    """The whole message from the first process, a line from each other: most errors are the same in all of them."""
    return f"error (process {rank}): {str(error).splitlines()[0]}" if rank else f"error: {error}"
