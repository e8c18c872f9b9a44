"""A tar for each class, as in ImageNet's training archive or unpacked from it, as a Source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from pld.errors import DataError
from pld.images.sources.forms.archives import archive_index, is_tar_of_tars
from pld.images.sources.image_files import is_junk
from pld.images.sources.keys import sample_keys
from pld.images.sources.source import ImageShard, Source
from pld.images.sources.tar_index import NO_LABEL, ROW_FIELDS, TarIndex
from pld.prefetch import IO_THREADS, map_ahead

_WORDNET_ID = re.compile(r"n\d{8}")


def class_tars_source(location: str, path: Path, index: TarIndex) -> Source:
    """A Source over a tar of tars, each a shard; classes are the inner tars' names, sorted."""
    rows = index.rows
    return _class_source(location, [path], np.zeros(len(rows), dtype=np.int64), rows, index.left_out)


def class_tar_files(folder: Path) -> list[Path]:
    """The tars of a folder that holds the inner tars of ImageNet's archive, sorted; none for any other folder."""
    tars = [path for path in sorted(folder.glob("*.tar")) if not is_junk(path.name)]
    if not tars or not all(_WORDNET_ID.fullmatch(path.stem) for path in tars):
        return []
    index = archive_index(tars[0])
    return tars if index and not is_tar_of_tars(index) else []


def class_tar_files_source(location: str, paths: Sequence[Path]) -> Source:
    """A Source over tars of images, each a class and a shard, named after it and sorted.

    Raises:
        DataError: a tar has labels or tars in it, or see `archive_index`.
    """
    with ThreadPoolExecutor(IO_THREADS) as pool:
        indexes = list(map_ahead(pool, archive_index, paths, ahead=2 * IO_THREADS))
    tables, left_out = [], Counter[str]()
    for label, (path, index) in enumerate(zip(paths, indexes, strict=True)):
        if index is None or is_tar_of_tars(index):
            raise DataError(f"{path}: wanted images alone, as in {paths[0].name}; move it elsewhere or copy it again")
        rows = np.empty(len(index.rows), dtype=[("path", "O"), *ROW_FIELDS])
        rows["path"] = [path.stem.encode() + b"/" + name for name in index.rows["path"].tolist()]
        rows["label"], rows["offset"], rows["size"] = label, index.rows["offset"], index.rows["size"]
        tables.append(rows)
        left_out.update(index.left_out)
    file_index = np.repeat(np.arange(len(paths)), [len(rows) for rows in tables])
    return _class_source(location, paths, file_index, np.concatenate(tables), left_out)


def _class_source(
    location: str, files: Sequence[Path], file_index: Int64[ndarray, "N"], rows: ndarray, left_out: Mapping[str, int]
) -> Source:
    """A Source over rows of images, whose paths begin with their classes, one class after the other."""
    labels = rows["label"].copy()
    starts = np.flatnonzero(np.diff(labels, prepend=NO_LABEL))
    counts = np.diff(starts, append=len(rows)).tolist()
    paths = rows["path"].tolist()
    names = {int(labels[start]): paths[start].partition(b"/")[0].decode() for start in starts.tolist()}
    return Source(
        location=location,
        shards=tuple(ImageShard(names[int(labels[s])], n) for s, n in zip(starts.tolist(), counts, strict=True)),
        keys=sample_keys(paths, [str(files[i]) for i in file_index.tolist()]),
        labels=labels,
        files=tuple(map(str, files)),
        file_index=file_index,
        offsets=rows["offset"].copy(),
        sizes=rows["size"].copy(),
        class_names=tuple(names[label] for label in range(len(names))),
        shuffle_window=len(names),  # a shard holds one class
        left_out=left_out,
    )
