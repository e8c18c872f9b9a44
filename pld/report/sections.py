"""A report as sections of text, tables and figures, and those as Markdown; the page's template shows the same ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Cells of plain text, a row each; the page scrolls a wide one sideways."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture for the page.

    Attributes:
        html: an <svg> or an <img> that holds all its data.
        wide: keep its own width and scroll sideways, rather than shrink to a phone's.
    """

    html: str
    wide: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, then paragraphs of plain text, then tables, then figures."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


def as_markdown(sections: Sequence[Section]) -> str:
    """The sections without their figures."""
    return "\n\n".join(block for section in sections for block in _blocks(section)) + "\n"


def _blocks(section: Section) -> list[str]:
    return [f"## {section.title}", *section.paragraphs, *(_table(table) for table in section.tables if table.rows)]


def _table(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
