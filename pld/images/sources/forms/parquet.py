"""Parquet files of Hugging Face datasets, read a row group at a time; only `pld data --shards` takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64
from numpy import ndarray

from pld.errors import DataError
from pld.images.sources.description import GivenClasses
from pld.images.sources.forms.huggingface import Columns, byte_places, find_columns, number_labels, row_keys
from pld.prefetch import map_ahead
from pld.views import Policy, RandomResizedCrop


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ParquetImages:
    """An ImageReader whose units are row groups.

    Attributes:
        columns: of each file.
        groups: the file and the number of each unit's row group.
    """

    location: str
    keys: ndarray
    labels: Int64[ndarray, "N"] | None
    class_names: tuple[str, ...] | None
    shard_sizes: tuple[int, ...]
    columns: Columns
    groups: tuple[tuple[Path, int], ...]
    policy: Policy = dataclasses.field(default_factory=RandomResizedCrop)
    encoding: None = None
    notes: tuple[str, ...] = ()

    def where(self, row: int) -> str:
        """The file and the sample, for messages."""
        return f"{self.groups[self._unit(row)][0]}: sample {self.keys[row].decode()}"

    def num_bytes(self, row: int) -> None:
        """Unknown: only reading a row group tells."""

    def read_units(self, units: Iterable[Int64[ndarray, "_"]]) -> Iterator[memoryview]:
        """Yield images in the order asked for, while a thread reads the next row group; see ImageReader."""
        with ThreadPoolExecutor(1, "parquet") as pool:
            for contents in map_ahead(pool, self._read, units, ahead=1):
                while contents:  # freed as they are used
                    yield contents.pop()

    def _read(self, rows: Int64[ndarray, "n"]) -> list[memoryview]:
        """The images of some rows of one unit, the first one last."""
        unit = self._unit(int(rows[0]))
        path, group = self.groups[unit]
        first = sum(self.shard_sizes[:unit])
        column = self.columns.image + (".bytes" if self.columns.has_path else "")
        try:
            with pq.ParquetFile(path, pre_buffer=True) as file:  # a third faster
                table = file.read_row_group(group, columns=[column])
            contents = [view for chunk in table.column(0).chunks for view in _views(chunk)]
        except (OSError, pa.ArrowException, ValueError) as error:
            raise DataError(f"{path}: row group {group}: {error}; the file is damaged or was replaced") from error
        if len(contents) != self.shard_sizes[unit]:
            raise DataError(f"{path}: row group {group} has changed since it was opened; run the command again")
        wanted = (rows - first).tolist()
        if missing := [row for row in wanted if contents[row] is None]:
            raise DataError(
                f"{self.where(first + missing[0])}: no bytes, only the path of a file elsewhere; save the dataset "
                "again with its images in it (datasets' `embed_external_files`)"
            )
        return [view for row in reversed(wanted) if (view := contents[row]) is not None]

    def _unit(self, row: int) -> int:
        return int(np.searchsorted(np.cumsum(self.shard_sizes), row, side="right"))


class _Rows(NamedTuple):
    """What is known of a file without reading its images: a label and a path for each row, the row groups' sizes."""

    columns: Columns
    labels: list[Any]
    paths: list[str | None]
    group_sizes: list[int]


def parquet_images(location: str, paths: Sequence[Path], given: GivenClasses) -> ParquetImages:
    """Open files, whose rows follow one another; reads labels and paths, not images.

    Keys are the images' paths without extension; `FILE/ROW` where paths are missing or repeated.

    Raises:
        DataError: a file cannot be read, differs from the first one, or lacks labels.
    """
    found = [_read_rows(path, unlabelled=given.unlabelled) for path in paths]
    columns = found[0].columns
    if other := next((path for path, rows in zip(paths, found, strict=True) if rows.columns != columns), None):
        raise DataError(f"{other}: has other columns or class names than {paths[0]}; name files of one dataset")
    counts = [sum(rows.group_sizes) for rows in found]
    if not sum(counts):
        raise DataError(f"{location}: no rows; wanted images")
    stems = [path.stem.replace(".", "_") for path in paths]
    places = [f"{stem}/{row:06d}" for stem, num in zip(stems, counts, strict=True) for row in range(num)]
    where = [str(path) for path, num in zip(paths, counts, strict=True) for _ in range(num)]
    labels, class_names = number_labels([label for rows in found for label in rows.labels], columns, given, location)
    keys, note = row_keys([path for rows in found for path in rows.paths], places, where)
    return ParquetImages(
        location=location,
        keys=keys,
        labels=labels,
        class_names=class_names,
        shard_sizes=tuple(size for rows in found for size in rows.group_sizes),
        columns=columns,
        groups=tuple((path, i) for path, rows in zip(paths, found, strict=True) for i in range(len(rows.group_sizes))),
        notes=(note,) if note else (),
    )


def _read_rows(path: Path, *, unlabelled: bool) -> _Rows:
    try:
        with pq.ParquetFile(path) as file:
            columns = find_columns(file.schema_arrow, str(path), unlabelled=unlabelled)
            names = [columns.label, f"{columns.image}.path" if columns.has_path else None]
            table = file.read(columns=[name for name in names if name])
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        num = sum(sizes)
        labels = table.column(columns.label).to_pylist() if columns.label else [None] * num
        images = table.column(columns.image).to_pylist() if columns.has_path else [None] * num
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}; copy it again") from error
    if not num == len(labels) == len(images):
        raise DataError(f"{path}: {len(labels):,} labels in {num:,} rows; the file is damaged, copy it again")
    return _Rows(columns, labels, [image["path"] if image else None for image in images], sizes)


def _views(chunk: pa.Array) -> Iterator[memoryview | None]:
    """The values of a column of bytes, or of a struct with them, without copies; None for those that are missing."""
    places = byte_places(chunk)
    content = memoryview(places.data) if places.data is not None else memoryview(b"")
    for present, start, end in zip(places.present.tolist(), *places.bounds.tolist(), strict=True):
        yield content[start:end] if present else None
