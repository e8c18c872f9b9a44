"""Folders of Hugging Face's `save_to_disk`: uncompressed Arrow files, read where images lie in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int64
from numpy import ndarray

from pld.errors import DataError
from pld.images.sources.description import GivenClasses
from pld.images.sources.folders import SHARD_SAMPLES
from pld.images.sources.forms.huggingface import Columns, byte_places, find_columns, number_labels, row_keys
from pld.images.sources.source import ImageShard, Source


class _Rows(NamedTuple):
    """The rows of a file: where each image lies in it, its label, and its path where the file has one."""

    columns: Columns
    offsets: Int64[ndarray, "n"]
    sizes: Int64[ndarray, "n"]
    labels: list[Any]
    paths: list[str | None]


def arrow_source(location: str, folder: Path, given: GivenClasses) -> Source:
    """A Source over one saved dataset: a folder with state.json and data-*.arrow.

    Keys are the images' paths without extension; `FILE/ROW` where paths are missing or repeated.

    Raises:
        DataError: a file cannot be read, is compressed, lacks labels, or has only the paths of images.
    """
    files = _files(folder)
    found = [_read(path, unlabelled=given.unlabelled) for path in files]
    columns = found[0].columns
    if other := next((path for path, rows in zip(files, found, strict=True) if rows.columns != columns), None):
        raise DataError(f"{other}: has other columns or class names than {files[0]}; save the dataset again")
    counts = [len(rows.offsets) for rows in found]
    labels, class_names = number_labels([label for rows in found for label in rows.labels], columns, given, location)
    places = [f"{path.stem}/{row:06d}" for path, num in zip(files, counts, strict=True) for row in range(num)]
    where = [str(path) for path, num in zip(files, counts, strict=True) for _ in range(num)]
    keys, note = row_keys([path for rows in found for path in rows.paths], places, where)
    num = len(keys)
    if not num:
        raise DataError(f"{folder}: no rows; wanted images")
    return Source(
        location=location,
        shards=tuple(
            ImageShard(f"{folder.name}-{first // SHARD_SAMPLES:06d}", min(SHARD_SAMPLES, num - first))
            for first in range(0, num, SHARD_SAMPLES)
        ),
        keys=keys,
        labels=labels,
        files=tuple(map(str, files)),
        file_index=np.repeat(np.arange(len(files)), counts),
        offsets=np.concatenate([rows.offsets for rows in found]),
        sizes=np.concatenate([rows.sizes for rows in found]),
        class_names=class_names,
        shuffle_window=-(-num // SHARD_SAMPLES),  # rows may be sorted by class
        notes=(note,) if note else (),
    )


def saved_splits(folder: Path) -> list[str]:
    """The splits of a saved DatasetDict; raises DataError."""
    splits = _read_json(folder / "dataset_dict.json").get("splits")
    if not isinstance(splits, list) or not all(isinstance(name, str) and Path(name).name == name for name in splits):
        raise DataError(f"{folder / 'dataset_dict.json'}: wanted a list of splits; save the dataset again")
    return splits


def _files(folder: Path) -> list[Path]:
    listed = _read_json(folder / "state.json").get("_data_files")
    entries = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    names = [str(each.get("filename")) for each in entries]
    if not names or not all(Path(name).name == name for name in names):
        raise DataError(f"{folder / 'state.json'}: wanted a list of Arrow files; save the dataset again")
    return [folder / name for name in names]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}; save the dataset again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: wanted a JSON object; save the dataset again")
    return value


def _read(path: Path, *, unlabelled: bool) -> _Rows:
    """Index one file through a memory map: the places of its buffers are those of its bytes."""
    offsets, sizes, labels, paths = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [], []
    try:
        with pa.memory_map(str(path)) as mapped:
            whole = mapped.read_buffer(mapped.size())
            mapped.seek(0)
            with pa.ipc.open_stream(mapped) as stream:
                columns = find_columns(stream.schema, str(path), unlabelled=unlabelled)
                for batch in stream:
                    images = batch.column(columns.image)
                    starts, lengths = _places(images, whole, path)
                    offsets.append(starts)
                    sizes.append(lengths)
                    texts = pa.array([None] * len(images)) if not columns.has_path else images.field("path")
                    texts.validate(full=True)
                    paths += texts.to_pylist()
                    if columns.label:
                        label = batch.column(columns.label)
                        label.validate(full=True)
                        labels += label.to_pylist()
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: cannot be read as Arrow: {error}; copy it again") from error
    return _Rows(columns, np.concatenate(offsets), np.concatenate(sizes), labels, paths)


def _places(images: pa.Array, whole: pa.Buffer, path: Path) -> tuple[Int64[ndarray, "n"], Int64[ndarray, "n"]]:
    """The offset in the file, and the size, of each image of a batch."""
    data, (starts, ends), present = byte_places(images)
    if not present.all():
        raise DataError(
            f"{path}: {int((~present).sum()):,} images without bytes, only the paths of files elsewhere; save the "
            "dataset again with its images in it (datasets' `embed_external_files`)"
        )
    first = data.address - whole.address if data is not None else 0
    if not 0 <= first <= whole.size - (data.size if data is not None else 0):
        raise DataError(f"{path}: compressed, so its images cannot be read where they lie; save the dataset again")
    return first + starts, ends - starts
