"""WebDataset tars: an index of where each sample's image lies, built by reading headers once."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import random
import re
import tarfile
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np
from numpy import ndarray
from tqdm import tqdm

from pld.caches import cache_folder
from pld.errors import DataError
from pld.images.decode import IMAGE_EXTENSIONS
from pld.images.remote_shards import RemotePlace, RemoteShard
from pld.images.source import ImageShard, RemoteFiles, Source, unique_keys

_INDEX_VERSION = 1
_ROW_FIELDS = [("label", "<i8"), ("offset", "<i8"), ("size", "<i8")]

# Shards fetched at once for their indexes.
_FETCHING_THREADS = 8

# No sane label takes more bytes; a hostile header can declare any size.
_MAX_LABEL_BYTES = 32


def tar_source(location: str, paths: list[Path]) -> Source:
    """A Source over tar shards whose samples are `PATH.jpg` (or another image extension) and `PATH.cls`.

    As in webdataset, a member's extension starts at the first dot of its file name; members with other extensions are
    no samples. Indexes are kept in the cache folder and remade when a shard's size or time of change differs.

    Raises:
        DataError: a shard is missing, empty, truncated or no tar; a sample lacks its image or its label, or two
            samples have one key.
    """
    indexes = [_local_index(path) for path in tqdm(paths, desc="indexing shards", unit="shard", delay=2)]
    return _source(location, [str(path) for path in paths], [path.stem for path in paths], indexes)


def remote_tar_source(location: str, place: RemotePlace, shards: list[RemoteShard]) -> Source:
    """The same over shards behind URLs.

    A shard without an index is fetched whole, into the local disk's cache, where the first epoch finds it again while
    the bound lasts. Processes of a machine that do this at once share the work.

    Raises:
        DataError: as `tar_source`, or a shard cannot be read.
        OutputError, ConfigError: the cache cannot be written, or is smaller than a shard.
    """
    indexes: dict[int, ndarray] = {}
    order = random.sample(range(len(shards)), len(shards))  # others take another: each finds what they have done
    stop = threading.Event()
    with ThreadPoolExecutor(_FETCHING_THREADS) as pool:
        waiting = {pool.submit(_remote_index, place, shards[i], stop): i for i in order}
        try:
            for done in tqdm(as_completed(waiting), "indexing shards", len(shards), unit="shard", delay=2):
                indexes[waiting[done]] = done.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    urls = [shard.url for shard in shards]
    names = [PurePosixPath(urlsplit(url).path).stem for url in urls]
    source = _source(location, urls, names, [indexes[i] for i in range(len(shards))])
    return dataclasses.replace(source, remote=RemoteFiles(place, tuple(shards)))


def _source(location: str, files: list[str], names: list[str], indexes: list[ndarray]) -> Source:
    rows = np.concatenate([index[["label", "offset", "size"]] for index in indexes])
    counts = [len(index) for index in indexes]
    sample_paths = [key for index in indexes for key in index["path"].tolist()]
    file_index = np.repeat(np.arange(len(files)), counts)
    return Source(
        location=location,
        shards=tuple(itertools.starmap(ImageShard, zip(_shard_names(names), counts, strict=True))),
        keys=unique_keys(sample_paths, [files[i] for i in file_index]),
        labels=rows["label"].copy(),
        files=tuple(files),
        file_index=file_index,
        offsets=rows["offset"].copy(),
        sizes=rows["size"].copy(),
    )


def _shard_names(stems: list[str]) -> list[str]:
    """The shards' file names as names for other files; numbered where they would not tell the shards apart."""
    names = [re.sub(r"[^A-Za-z0-9._-]", "_", stem).lstrip("._-") or "shard" for stem in stems]
    return names if len(set(names)) == len(names) else [f"{i:06d}-{name}" for i, name in enumerate(names)]


def _local_index(path: Path) -> ndarray:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; --data wants existing tar shards") from error
    identity = f"{_INDEX_VERSION}:{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"
    return _kept_index(identity, lambda: build_index(path))


def _remote_index(place: RemotePlace, shard: RemoteShard, stop: threading.Event) -> ndarray:
    def build() -> ndarray:
        held = place.hold(shard, stop)
        try:
            return build_index(held.path, shard.url)
        finally:
            held.release()

    return _kept_index(f"{_INDEX_VERSION}:{shard.file_name}", build)


def _kept_index(identity: str, build: Callable[[], ndarray]) -> ndarray:
    cached = cache_folder() / "index" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.npy"
    try:
        return np.asarray(np.load(cached, allow_pickle=False))
    except (OSError, ValueError, EOFError):  # not there yet, or cut short by a full disk
        index = build()
        _save(cached, index)
        return index


def _save(path: Path, index: ndarray) -> None:
    # An index that cannot be kept is built again next time; nothing depends on it.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as staging:
            np.save(staged := Path(staging) / path.name, index, allow_pickle=False)
            staged.replace(path)


@dataclasses.dataclass
class _Sample:
    offset: int = -1
    size: int = -1
    label: int = -1


def build_index(path: Path, shown: str | None = None) -> ndarray:
    """Read a tar's headers: one row (path, label, offset, size) per sample, in the tar's order; see `tar_source`.

    Args:
        path: the tar.
        shown: its name in errors, where that is not its path.
    """
    where = shown or str(path)
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile():
                    _add_member(samples, tar, member, where)
                elif not member.isdir():
                    raise DataError(f"{where}: member {member.name!r} is a link or a device; wanted plain files")
            end = tar.offset
    except tarfile.TarError as error:
        raise DataError(f"{where}: {error}; the tar is truncated or damaged, copy it again") from error
    except OSError as error:
        raise DataError(f"{where}: {error.strerror}") from error
    _check_end_marker(path, end, where)
    if not samples:
        raise DataError(f"{where}: an empty shard; wanted at least one image with its .cls")
    return _as_rows(samples, where)


def _add_member(samples: dict[str, _Sample], tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> None:
    folder, _, name = member.name.rpartition("/")
    stem, _, extension = name.partition(".")
    key = f"{folder}/{stem}".removeprefix("./").lstrip("/")
    if extension.lower() in IMAGE_EXTENSIONS:
        sample = samples.setdefault(key, _Sample())
        if sample.offset >= 0:
            raise DataError(f"{where}: two samples with one key, {key!r}; wanted one image for each key")
        sample.offset, sample.size = member.offset_data, member.size
    elif extension.lower() == "cls":
        sample = samples.setdefault(key, _Sample())
        if sample.label >= 0:
            raise DataError(f"{where}: two samples with one key, {key!r}; wanted one .cls for each key")
        sample.label = _parse_label(tar, member, where)
    elif extension.lower().rpartition(".")[2] in (*IMAGE_EXTENSIONS, "cls"):
        raise DataError(
            f"{where}: {member.name}: a dot in the sample's name; webdataset takes all behind the first dot for the "
            "extension. Rename it, e.g. with a _ for the dot"
        )


def _parse_label(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> int:
    payload = tar.extractfile(member) if member.size <= _MAX_LABEL_BYTES else None
    text = payload.read().strip() if payload else b""
    if not text.isdigit():
        raise DataError(f"{where}: {member.name}: found {text!r}, wanted a class index such as 7")
    return int(text)


def _check_end_marker(path: Path, end: int, where: str) -> None:
    """A tar ends in a block of zeros. Python's tarfile takes one cut between two members for complete."""
    with path.open("rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise DataError(f"{where}: the tar is truncated: no end-of-archive marker at byte {end}; copy it again")


def _as_rows(samples: dict[str, _Sample], where: str) -> ndarray:
    for key, sample in samples.items():
        if sample.label < 0:
            raise DataError(f"{where}: sample {key!r} has no label; wanted a member {key}.cls with its class index")
        if sample.offset < 0:
            raise DataError(f"{where}: sample {key!r} has a .cls but no image; wanted {key}.jpg or similar")
    keys = [key.encode() for key in samples]
    rows = np.empty(len(keys), dtype=[("path", f"S{max(map(len, keys))}"), *_ROW_FIELDS])
    rows["path"] = keys
    for field in ("label", "offset", "size"):
        rows[field] = [getattr(sample, field) for sample in samples.values()]
    return rows
