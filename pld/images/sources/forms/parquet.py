"""Parquet files of Hugging Face datasets, read a row group at a time; only `pld data --shards` takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64
from numpy import ndarray

from pld.errors import DataError
from pld.images.sources.folders import StatedClasses
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
    labels: Int64[ndarray, "N"]
    class_names: tuple[str, ...] | None
    shard_sizes: tuple[int, ...]
    columns: Columns
    groups: tuple[tuple[Path, int], ...]
    policy: Policy = dataclasses.field(default_factory=RandomResizedCrop)
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


def parquet_images(location: str, paths: Sequence[Path], stated: StatedClasses | None) -> ParquetImages:
    """Open files, whose rows follow one another; reads labels and paths, not images.

    Keys are the images' paths without extension; `FILE/ROW` where paths are missing or repeated.

    Raises:
        DataError: a file cannot be read, differs from the first one, or lacks labels.
    """
    values: list[Any] = []
    image_paths: list[str | None] = []
    rows: list[str] = []
    where: list[str] = []
    groups: list[tuple[Path, int]] = []
    sizes: list[int] = []
    columns: Columns | None = None
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                found = find_columns(file.schema_arrow, str(path))
                if columns not in (None, found):
                    raise DataError(
                        f"{path}: has other columns or class names than {paths[0]}; name files of one dataset"
                    )
                columns = found
                names = [columns.label, *([f"{columns.image}.path"] if columns.has_path else [])]
                table = file.read(columns=names)
                groups += [(path, group) for group in range(file.num_row_groups)]
                sizes += [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read as Parquet: {error}; copy it again") from error
        values += table.column(columns.label).to_pylist()
        num = len(table)
        image_paths += (
            [row["path"] if row else None for row in table.column(columns.image).to_pylist()]
            if columns.has_path
            else [None] * num
        )
        stem = path.stem.replace(".", "_")
        rows += [f"{stem}/{row:06d}" for row in range(num)]
        where += [str(path)] * num
    if columns is None or not values:
        raise DataError(f"{location}: no rows; wanted images")
    numbers, class_names = number_labels(values, columns, stated, location)
    keys, note = row_keys(image_paths, rows, where)
    return ParquetImages(
        location=location,
        keys=keys,
        labels=numbers,
        class_names=class_names,
        shard_sizes=tuple(sizes),
        columns=columns,
        groups=tuple(groups),
        notes=(note,) if note else (),
    )


def _views(chunk: pa.Array) -> Iterator[memoryview | None]:
    """The values of a column of bytes, or of a struct with them, without copies; None for those that are missing."""
    places = byte_places(chunk)
    content = memoryview(places.data) if places.data is not None else memoryview(b"")
    for present, start, end in zip(places.present.tolist(), *places.bounds.tolist(), strict=True):
        yield content[start:end] if present else None
