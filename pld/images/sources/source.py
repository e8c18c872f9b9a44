"""A Source: the samples of a dataset in shards, each with a key, the location of its bytes and perhaps a label."""

from __future__ import annotations

import dataclasses
import functools
import os
import resource
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, Shaped
from numpy import ndarray

from pld.classes.matching import Classes
from pld.errors import DataError
from pld.images.sources.image_files import format_counts
from pld.prefetch import IO_THREADS, map_ahead
from pld.remote.image_shards import RemotePlace, RemoteShard
from pld.views import Policy, RandomResizedCrop

# Images that a thread reads at a time: few enough for large ones, and enough to hide what a task costs.
_READ_TOGETHER = 4

# Of the files that a process may have open, one in so many is an image file or shard that is kept open.
_SHARE_OF_OPEN_FILES = 4

# As a size: read to the file's end. This avoids a stat for each file of a large folder.
WHOLE_FILE = -1


@dataclasses.dataclass(frozen=True)
class ImageShard:
    """A tar, or a fixed-size run of a folder's sorted files: stage one's unit of work."""

    name: str
    num_samples: int


@dataclasses.dataclass(frozen=True)
class RemoteFiles:
    """The files of a Source behind URLs."""

    place: RemotePlace
    shards: tuple[RemoteShard, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Samples in shards. Global row i is the i-th sample, shard after shard; arrays are indexed by it.

    Attributes:
        location: the user's name for the dataset, for messages.
        shards: names and sizes.
        keys: bytes [N] (NumPy `S`, UTF-8), unique.
        labels: int64 [N], class indices; None for images without labels.
        files: the files that hold the bytes, or their URLs.
        file_index: int64 [N], the file of each sample.
        offsets: int64 [N], bytes from the start of the file.
        sizes: int64 [N], bytes; -1 for a whole file.
        class_names: the label space, if the dataset states it; without labels the classes that a teacher tells apart.
        policy: how this dataset's views are drawn unless the user says otherwise.
        shuffle_window: shards to shuffle together; all of them if a shard holds few classes.
        remote: the files' place and descriptions, if they are behind URLs.
        left_out: the number of files that are not samples, by extension.
        encoding: how its images were re-encoded, as dataset.json says it; None for images as they were.
        notes: one sentence for each thing that the user should know about how this was read.
    """

    location: str
    shards: tuple[ImageShard, ...]
    keys: ndarray
    labels: Int64[ndarray, "N"] | None
    files: tuple[str, ...]
    file_index: Int64[ndarray, "N"]
    offsets: Int64[ndarray, "N"]
    sizes: Int64[ndarray, "N"]
    class_names: tuple[str, ...] | None = None
    policy: Policy = dataclasses.field(default_factory=RandomResizedCrop)
    shuffle_window: int = 8
    remote: RemoteFiles | None = None
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    encoding: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples in each shard."""
        return tuple(shard.num_samples for shard in self.shards)

    def key(self, row: int) -> str:
        """The key of one sample."""
        return str(self.keys[row].decode())

    def label(self, row: int) -> int | None:
        """The class index of one sample; None without labels."""
        return None if self.labels is None else int(self.labels[row])

    def known_labels(self) -> Int64[ndarray, "N"]:
        """The labels; raises DataError where the images have none."""
        if self.labels is None:
            raise DataError(f"{self.location}: found images without labels, wanted labelled ones; name other images")
        return self.labels

    def where(self, row: int) -> str:
        """The file and the sample, for messages."""
        return f"{self.files[self.file_index[row]]}: sample {self.key(row)}"

    def read(self, row: int) -> bytes:
        """Read the encoded bytes of one image; raises DataError if the file no longer holds them."""
        file, offset, size = int(self.file_index[row]), int(self.offsets[row]), int(self.sizes[row])
        try:
            if self.remote:
                data = self.remote.place.read(self.remote.shards[file], offset, size)
            else:
                data = _open_file(self.files[file]).read(offset, size)
        except OSError as error:
            raise DataError(f"{self.where(row)}: {error.strerror}") from error
        if len(data) != size and size != WHOLE_FILE:
            found = f"found {len(data)} of {size} bytes"
            raise DataError(f"{self.where(row)}: {found}; the file changed since it was indexed")
        return data

    def read_units(self, units: Iterable[Int64[ndarray, "_"]]) -> Iterator[bytes]:
        """Yield the encoded images of rows in the order asked for; threads read ahead. Raises DataError as `read`."""

        def read_some(rows: Int64[ndarray, "m"]) -> list[bytes]:
            return [self.read(row) for row in rows.tolist()]

        some = (rows[i : i + _READ_TOGETHER] for rows in units for i in range(0, len(rows), _READ_TOGETHER))
        with ThreadPoolExecutor(IO_THREADS, "read") as pool:
            for contents in map_ahead(pool, read_some, some, ahead=IO_THREADS):
                yield from contents

    def num_bytes(self, row: int) -> int:
        """The number of bytes that `read` returns; raises DataError if the file is gone."""
        size = int(self.sizes[row])
        try:
            return size if size != WHOLE_FILE else Path(self.files[self.file_index[row]]).stat().st_size
        except OSError as error:
            raise DataError(f"{self.where(row)}: {error.strerror}") from error

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and the number of files left out."""
        return (
            (*self.notes, f"{self.location}: left out {format_counts(self.left_out)}") if self.left_out else self.notes
        )

    @property
    def classes(self) -> Classes:
        """The label space; without names, the highest label gives the number of classes, 0 without labels."""
        highest = -1 if self.labels is None else int(self.labels.max(initial=-1))
        count = len(self.class_names) if self.class_names else highest + 1
        return Classes(names=self.class_names, count=count, owner=self.location)

    def map_labels(self, numbers: Sequence[int] | Int64[ndarray, "C"], class_names: tuple[str, ...] | None) -> Source:
        """The same samples in another label space.

        Args:
            numbers: the new number of each class.
            class_names: of the new label space, if it has names.
        """
        labels = np.asarray(numbers, dtype=np.int64)[self.known_labels()]
        return dataclasses.replace(self, labels=labels, class_names=class_names)

    def with_keys(self, keys: Shaped[ndarray, "N"]) -> Source:
        """The same samples under other keys, from which their views are drawn."""
        return dataclasses.replace(self, keys=keys)

    def with_notes(self, *notes: str | None) -> Source:
        """The same samples with more notes; None is ignored."""
        return dataclasses.replace(self, notes=(*self.notes, *filter(None, notes)))

    def subset(self, keep: Bool[ndarray, "N"]) -> Source:
        """The samples where `keep` is true, in the same shards."""
        ends = np.cumsum(self.shard_sizes)
        kept = [int(part.sum()) for part in np.split(keep, ends[:-1])]
        shards = tuple(ImageShard(s.name, n) for s, n in zip(self.shards, kept, strict=True))
        labels = None if self.labels is None else self.labels[keep]
        columns = {name: getattr(self, name)[keep] for name in ("keys", "file_index", "offsets", "sizes")}
        return dataclasses.replace(self, shards=shards, labels=labels, **columns)


class _OpenFile:
    """A file descriptor that closes when its last reader is done, so a cache may drop it at any time."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, size: int) -> bytes:
        if size == WHOLE_FILE:
            size = os.fstat(self._descriptor).st_size
        return os.pread(self._descriptor, size, offset)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


@functools.lru_cache(maxsize=128)
def _open_file(path: str) -> _OpenFile:
    if _open_file.cache_info().currsize >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE_OF_OPEN_FILES:
        _open_file.cache_clear()
    return _OpenFile(path)


def forget_open_files() -> None:
    """Close the files that are kept open, so that files replaced since then are read anew."""
    _open_file.cache_clear()
