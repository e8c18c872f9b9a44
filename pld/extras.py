"""How to install pld-distill with what it can do without: from a clone, as no package index has it."""

from __future__ import annotations


def install_hint(extra: str) -> str:
    """What to tell whoever lacks one of pyproject.toml's extras: the command, and where to run it."""
    return f"{install_command(extra)} in a clone of pld-distill"


def install_command(extra: str | None = None) -> str:
    """The command, which is to be run in a clone."""
    return f"pip install '.[{extra}]'" if extra else "pip install ."
