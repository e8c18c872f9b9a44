"""How to install pld-distill and its extras: from a clone, as no package index has it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pld.errors import ConfigError


@contextlib.contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Import modules of one of pyproject.toml's extras; raises ConfigError, naming `what` needs it, without them."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"{what} needs {error.name}: {install_hint(extra)}") from error


def install_hint(extra: str) -> str:
    """How to install one of pyproject.toml's extras: the command, and where to run it."""
    return f"{install_command(extra)} in a clone of pld-distill"


def install_command(extra: str | None = None) -> str:
    """The command to run in a clone."""
    return f"pip install '.[{extra}]'" if extra else "pip install ."
