"""Read labels from CSV files: `path,label` lines, with a header or without, and Kaggle's LOC_val_solution.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pld.errors import DataError

SOLUTION = "LOC_val_solution.csv"

# Headers, in lower case.
_PATHS = frozenset(("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "imageid"))
_LABELS = frozenset(("label", "labels", "class", "class_name", "target", "wnid", "predictionstring"))
_BOXES = "predictionstring"  # "WNID x y x y ..."
_SPLIT = "split"
# Tiny ImageNet's val_annotations.txt: name, WordNet id and box, between tabs.
_ANNOTATION_CELLS = 6


class LabelledPath(NamedTuple):
    """One line: the number of the line, the image's path as it is written, its class, and its split, if it has one."""

    line: int
    path: str
    label: str
    split: str | None = None


def read_label_csv(path: Path) -> list[LabelledPath]:
    """The images and their classes, in the order of the lines; blank lines are skipped.

    Cells have commas between them, or tabs if the first line has some, as in Tiny ImageNet's val_annotations.txt.

    Raises:
        DataError: the file cannot be read, a line has no path or no class, or a path is repeated.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            tabs = file.readline().count("\t")
            file.seek(0)
            reader = csv.reader(file, strict=True, delimiter="\t" if tabs else ",")
            found = list(_parse(reader, path, _ANNOTATION_CELLS if tabs == _ANNOTATION_CELLS - 1 else 2))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; wanted a CSV file of path,label lines") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV in UTF-8: {error}; wanted path,label lines") from error
    if not found:
        raise DataError(f"{path}: no lines; wanted path,label lines")
    lines: dict[str, int] = {}
    for each in found:
        if each.path in lines:
            raise DataError(f"{path}: lines {lines[each.path]} and {each.line} both name {each.path!r}; remove one")
        lines[each.path] = each.line
    return found


def _parse(rows: Iterator[list[str]], path: Path, width: int) -> Iterator[LabelledPath]:
    columns, boxes, split = (0, 1), False, None
    first = True
    for row in rows:
        line: int = rows.line_num  # type: ignore[attr-defined]
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        header = _header(cells) if first else None
        first = False
        if header:
            columns, width, boxes = header, len(cells), cells[header[1]].lower() == _BOXES
            split = next((column for column, cell in enumerate(cells) if cell.lower() == _SPLIT), None)
            continue
        if any("\0" in cell for cell in cells):
            raise DataError(f"{path}: line {line}: found a NUL byte; wanted text in UTF-8, a path and a label")
        if len(cells) != width:
            raise DataError(
                f"{path}: line {line}: found {len(cells)} cells, {','.join(cells)[:80]!r}, wanted {width}: a path and "
                "a label with a comma between them, or columns that a first line path,label names"
            )
        name, label = (cells[column] for column in columns)
        label = label.split()[0] if boxes and label else label
        if not name or not label:
            raise DataError(f"{path}: line {line}: found {','.join(cells)[:80]!r}, wanted a path and a label")
        if split is not None and not cells[split]:
            raise DataError(f"{path}: line {line}: nothing in the column split; wanted train, val or another name")
        yield LabelledPath(line, name, label, cells[split] if split is not None else None)


def _header(cells: list[str]) -> tuple[int, int] | None:
    """The columns of the path and of the label, if the line names both."""
    names = [cell.lower() for cell in cells]
    paths = [column for column, name in enumerate(names) if name in _PATHS]
    labels = [column for column, name in enumerate(names) if name in _LABELS]
    return (paths[0], labels[0]) if paths and labels else None
