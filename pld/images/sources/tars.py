"""WebDataset tars: an index of where each sample's image lies, built by reading headers once."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import random
import re
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np

from pld.errors import DataError, NoLabelsError
from pld.files import write_atomically
from pld.images.decode.image import IMAGE_EXTENSIONS
from pld.images.sources.keys import sample_keys
from pld.images.sources.source import ImageShard, RemoteFiles, Source
from pld.images.sources.tar_index import NO_LABEL, TarIndex, is_current, read_tar
from pld.prefetch import IO_THREADS, map_ahead
from pld.progress import progress
from pld.remote.cache_folder import cache_folder
from pld.remote.image_shards import RemotePlace, RemoteShard

# What an index depends on, besides its tar.
_INDEX_KIND = f"3:{','.join(IMAGE_EXTENSIONS)}"

_LOADING = threading.Lock()


def tar_source(location: str, paths: list[Path], *, unlabelled: bool = False) -> Source:
    """A Source over tar shards whose samples are `PATH.jpg` (or another image extension) and `PATH.cls`.

    With `unlabelled` no sample needs a .cls, and those that there are are not used.

    As in webdataset, a member's extension starts at the first dot of its file name; members with other extensions are
    no samples, nor is what operating systems leave. Indexes are kept in the cache folder and remade when a shard is
    another file, its size or times differ, or some of its members do.

    Raises:
        DataError: a shard is missing, empty, truncated, compressed or no tar, or has more behind its end; a member is a
            link or sparse, or its name is not UTF-8; a sample lacks its image or its label, or two samples have one
            key.
    """
    with ThreadPoolExecutor(IO_THREADS) as pool:
        found = map_ahead(pool, _local_index, paths, ahead=2 * IO_THREADS)
        indexes = list(_counted(found, len(paths)))
    source = _source(location, [str(path) for path in paths], [path.stem for path in paths], indexes)
    return _with_labels(source, indexes, unlabelled=unlabelled)


def remote_tar_source(
    location: str, place: RemotePlace, shards: list[RemoteShard], *, unlabelled: bool = False
) -> Source:
    """The same over shards behind URLs.

    A shard without an index is fetched whole, into the local disk's cache, where the first epoch finds it again while
    the bound lasts. Processes of a machine that do this at once share the work.

    Raises:
        DataError: as `tar_source`, or a shard cannot be read.
        OutputError, ConfigError: the cache cannot be written, or is smaller than a shard.
    """
    order = random.sample(range(len(shards)), len(shards))  # others take another: each finds what they have done
    stop = threading.Event()
    with ThreadPoolExecutor(IO_THREADS) as pool:
        found = map_ahead(pool, lambda i: _remote_index(place, shards[i], stop), order, ahead=len(order))
        try:
            indexes = dict(zip(order, _counted(found, len(shards)), strict=True))
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    urls = [shard.url for shard in shards]
    names = [PurePosixPath(urlsplit(url).path).stem for url in urls]
    in_order = [indexes[i] for i in range(len(shards))]
    source = _with_labels(_source(location, urls, names, in_order), in_order, unlabelled=unlabelled)
    return dataclasses.replace(source, remote=RemoteFiles(place, tuple(shards)))


def _counted(indexes: Iterable[TarIndex], total: int) -> Iterator[TarIndex]:
    """Them, with progress where that takes long."""
    with progress(total, "indexing shards", "shard", delay=2.0) as bar:
        for index in indexes:
            yield index
            bar.update()


def _source(location: str, files: list[str], names: list[str], indexes: list[TarIndex]) -> Source:
    rows = np.concatenate([index.rows[["offset", "size"]] for index in indexes])
    counts = [len(index.rows) for index in indexes]
    sample_paths = [key for index in indexes for key in index.rows["path"].tolist()]
    file_index = np.repeat(np.arange(len(files)), counts)
    return Source(
        location=location,
        shards=tuple(itertools.starmap(ImageShard, zip(shard_names(names), counts, strict=True))),
        keys=sample_keys(sample_paths, [files[i] for i in file_index]),
        labels=None,
        files=tuple(files),
        file_index=file_index,
        offsets=rows["offset"].copy(),
        sizes=rows["size"].copy(),
        left_out=sum((Counter(index.left_out) for index in indexes), Counter()),
    )


def _with_labels(source: Source, indexes: list[TarIndex], *, unlabelled: bool) -> Source:
    """The same with the labels of its .cls; with `unlabelled` only a note of how many are not used.

    Raises:
        NoLabelsError: a sample has no .cls, and the images are to be labelled.
    """
    labels = np.concatenate([index.rows["label"] for index in indexes])
    lacking = np.flatnonzero(labels == NO_LABEL)
    if unlabelled:
        num = len(labels) - len(lacking)
        return source.with_notes(f"{source.location}: the labels of {num:,} images are not used" if num else None)
    if len(lacking):
        path = np.concatenate([index.rows["path"] for index in indexes])[lacking[0]].decode()
        raise NoLabelsError(
            f"{source.files[source.file_index[lacking[0]]]}: sample {path!r} has no label ({len(lacking):,} of "
            f"{len(labels):,} have none); wanted a member {path}.cls with its class index, or a {path}.json "
            'with {"label": the class index}'
        )
    return dataclasses.replace(source, labels=labels)


def shard_names(stems: list[str]) -> list[str]:
    """The shards' file names as names for other files; numbered where they would not tell the shards apart."""
    names = [re.sub(r"[^A-Za-z0-9._-]", "_", stem).lstrip("._-") or "shard" for stem in stems]
    return names if len(set(names)) == len(names) else [f"{i:06d}-{name}" for i, name in enumerate(names)]


def _local_index(path: Path) -> TarIndex:
    try:
        identity = _identity(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; --data wants existing tar shards") from error
    return kept_index(identity, lambda: read_tar(path), lambda index: is_current(index, path))


def is_known_shard(path: Path) -> bool:
    """Whether the cache folder knows this file as a tar shard with labels; raises OSError if there is no such file."""
    index = _load(_index_file(_identity(path)))
    return index is not None and bool((index.rows["label"] != NO_LABEL).all())


def _identity(path: Path) -> str:
    return f"{_INDEX_KIND}:{path.resolve()}:{file_state(path.stat())}"


def file_state(status: os.stat_result) -> str:
    """What changes with a file, also where the times that can be set are set back."""
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def _remote_index(place: RemotePlace, shard: RemoteShard, stop: threading.Event) -> TarIndex:
    def build() -> TarIndex:
        held = place.hold(shard, stop)
        try:
            return read_tar(held.path, shard.url)
        finally:
            held.release()

    return kept_index(f"{_INDEX_KIND}:{shard.file_name}", build, lambda index: True)


def kept_index(identity: str, build: Callable[[], TarIndex], is_good: Callable[[TarIndex], bool]) -> TarIndex:
    """The index that the cache folder keeps under this identity, if it is good; else a new one, which it keeps."""
    cached = _index_file(identity)
    index = _load(cached)
    if index is None or not is_good(index):
        index = build()
        _save(cached, index)
    return index


def _index_file(identity: str) -> Path:
    digest = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()
    return cache_folder() / "index" / f"{digest[:32]}.npz"


def _load(path: Path) -> TarIndex | None:
    try:
        # CPython 3.11's parser of literals, which reads the arrays' headers, fails where two threads use it at once.
        with _LOADING, path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return TarIndex(
                rows=kept["rows"],
                left_out=dict(zip(kept["left_out"].tolist(), kept["left_out_counts"].tolist(), strict=True)),
                checked=kept["checked"],
                digest=kept["digest"].tobytes(),
            )
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):  # not there yet, or cut by a full disk
        return None


def _save(path: Path, index: TarIndex) -> None:
    # An index that cannot be kept is built again next time; nothing depends on it.
    with contextlib.suppress(OSError), write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            rows=index.rows,
            left_out=np.array(list(index.left_out), dtype=np.str_),
            left_out_counts=np.array(list(index.left_out.values()), dtype=np.int64),
            checked=index.checked,
            digest=np.frombuffer(index.digest, np.uint8),
        )
