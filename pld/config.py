"""A configuration from a command line and YAML files; jsonargparse does the parsing."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import itertools
import json
import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import shtab
import yaml
from jsonargparse import ArgumentParser, get_loader

from pld.errors import ConfigError, PLDError
from pld.logs import AS_IT_IS, FILE_ONLY, showing_logs
from pld.options import Config, flatten, from_flat, groups, nest, options, unknown_option
from pld.process.stopping import INTERRUPTED, Stopped

_LOG = logging.getLogger(__name__)


class _Parser(ArgumentParser):
    """Takes options by flat names, and files of options in groups; raises ConfigError where argparse would exit."""

    def __init__(self, kind: type[Any], **settings: Any) -> None:
        self._kind = kind
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Name the nearest options in place of printing every option there is."""
        unknown = re.search(r"[Oo]ption '([\w.]+)' is not accepted|unrecognized arguments: -*(\S+)", message)
        name = next(filter(None, unknown.groups()), "") if unknown else ""
        raise ConfigError(unknown_option(self._kind, name) if unknown else message)

    def parse_string(self, content: str, *arguments: Any, **settings: Any) -> Any:
        """Groups are undone before the options are looked at."""
        with contextlib.suppress(yaml.YAMLError):  # the parser itself says what is wrong
            values = get_loader("yaml")(content)
            if isinstance(values, dict):
                content = yaml.safe_dump(flatten(self._kind, values))
        return super().parse_string(content, *arguments, **settings)

    def dump(self, *arguments: Any, **settings: Any) -> str:
        """What --print_config prints: options in their groups."""
        flat = get_loader("yaml")(super().dump(*arguments, **settings))
        return yaml.safe_dump(nest(self._kind, flat), sort_keys=False)


def parse_config(
    kind: type[Config], argv: Sequence[str], *, prog: str, description: str, named_files: Path | None = None
) -> Config:
    """Build a configuration from command-line arguments.

    `--config FILE` reads YAML, with options in their groups or by flat name; later arguments override it;
    `--print_config` prints the outcome and exits. `--lr` and `--optimizer.lr` are the same, and so are dashes and
    underscores. A true-or-false option may stand alone: `--online-teacher`. An option that takes a list may be given
    once for each value.

    Args:
        kind: a frozen dataclass of `option`s, alone or in groups.
        argv: without the program's name.
        prog: the program's name, for --help.
        description: for --help.
        named_files: a folder of YAML files that `--config NAME` may name without path and extension.

    Raises:
        ConfigError: an unknown option (with the nearest ones), a missing file, a value of another type.
    """
    parser = _Parser(kind, prog=prog, description=description)
    parser.add_argument("--config", action="config", help="YAML file of options" + _names(named_files))
    add_completion(parser)
    sections = {name: parser.add_argument_group(name, group.__doc__) for name, group in groups(kind).items()}
    for name, each in options(kind).items():
        section = sections[each.group] if each.group else parser
        section.add_argument(f"--{name}", type=each.type, default=each.default, help=each.field.metadata.get("help"))
    namespace = parser.parse_args(_join_lists(kind, _normalize(kind, argv, named_files)))
    del namespace["config"]
    return from_flat(kind, namespace.as_dict())


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


def _normalize(kind: type[Any], argv: Sequence[str], named_files: Path | None) -> list[str]:
    """Options spelled as the parser wants them: underscores, flat names, switches with their value."""
    known, group_names = options(kind), groups(kind)
    flat = {each.path: name for name, each in known.items()}
    result: list[str] = []
    for argument, following in itertools.pairwise([*argv, "--"]):
        if re.match(r"--?[A-Za-z]", argument) and argument != "-h":
            name, equals, value = argument.lstrip("-").partition("=")
            name = name.replace("-", "_")
            if "." in name and name not in flat and name.partition(".")[0] in group_names:
                raise ConfigError(unknown_option(kind, name))
            name = flat.get(name, name)
            result += [f"--{name}", _named(name, value, named_files)] if equals else [f"--{name}"]
            is_switch = name in known and known[name].type is bool
            if is_switch and not equals and following.startswith("-"):
                result.append("true")
        else:
            result.append(_named(result[-1].removeprefix("--") if result else "", argument, named_files))
    return result


def _join_lists(kind: type[Any], argv: list[str]) -> list[str]:
    """Options of several values that are given more than once, as one list in the last one's place."""
    for name in (name for name, each in options(kind).items() if "list[" in str(each.type)):
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


def run(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run `main(argv)`; an error that the user can mend is printed in place of a traceback and exits with 2.

    So is what stopped the command, which exits with 130 or 143.
    """
    with showing_logs():
        try:
            main(sys.argv[1:] if argv is None else argv)
        except PLDError as error:
            _LOG.error("%s", error)
            _leave_for_torchrun(f"error: {error}")
            return 2
        except Stopped as stopped:
            _LOG.error("%s", stopped.message, extra=AS_IT_IS)
            _leave_for_torchrun(stopped.message)
            return stopped.status
        except KeyboardInterrupt:
            _LOG.error("interrupted", extra=AS_IT_IS)
            return INTERRUPTED
        except Exception:
            _LOG.error("an error that is not the user's", exc_info=True, extra=FILE_ONLY)  # Python prints it
            raise
    return 0


def _leave_for_torchrun(text: str) -> None:
    """Put an error where torchrun looks for its processes' errors, which it prints below all of its own lines."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        with contextlib.suppress(OSError):  # it has been printed
            Path(path).write_text(json.dumps({"message": text, "timestamp": int(time.time())}))
