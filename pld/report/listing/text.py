"""Text of strangers' files in a table of the terminal."""

from __future__ import annotations

from pld.errors import first_line

_MAX_CHARACTERS = 100


def one_line(text: object) -> str:
    """A value as a short line without control characters, which could move the cursor or recolour the terminal."""
    line = "".join(letter if letter.isprintable() else "?" for letter in str(text))
    return line if len(line) <= _MAX_CHARACTERS else line[: _MAX_CHARACTERS - 3] + "..."


def unreadable(error: Exception, url: str) -> str:
    """The state of a place that cannot be read; its own name is left out of the reason."""
    return one_line(f"unreadable: {first_line(error).removeprefix(f'{url}/').removeprefix(f'{url}: ')}")
