"""Index ImageNet's own archives: a tar of a tar for each class, and a flat tar of images, read where they lie."""

from __future__ import annotations

import dataclasses
import itertools
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pld.errors import DataError
from pld.images.sources.folders import SHARD_SAMPLES
from pld.images.sources.forms.flat_images import FlatImages
from pld.images.sources.image_files import JUNK, is_image_name, is_junk, kind_of
from pld.images.sources.tar_index import (
    ROW_FIELDS,
    TarIndex,
    check_end,
    check_member,
    digest_of,
    is_current,
    sample_headers,
)
from pld.images.sources.tars import file_state, is_known_shard, kept_index

# Members that tell the form of a tar: more than a sample of a WebDataset tar has.
_TELLING = 16
_INDEX_KIND = "archive:2"
_INNER = ".tar"
# Beside an image, in WebDataset tars.
_LABELS = (".cls", ".json")
# Of images without a label of their own.
_NO_LABEL = -1


@dataclasses.dataclass
class _Rows:
    """What an index is made of, as it is found."""

    paths: list[bytes]
    labels: list[int]
    offsets: list[int]
    sizes: list[int]
    headers: list[int]
    left_out: Counter[str]


def archive_index(path: Path) -> TarIndex | None:
    """The index of a tar of tars or of a flat tar of images; None for any other file, such as a WebDataset tar.

    The path of an image in a tar of tars begins with the inner tar's name, and its label is that name's place among
    the sorted ones. In a flat tar all labels are -1. Indexes are kept in the cache folder, as `tar_source`'s are.

    Raises:
        DataError: a member is damaged, lies outside its tar, is no plain file, or an inner tar has no images.
    """
    try:
        if is_known_shard(path) or not _looks_like_archive(path):
            return None
        identity = f"{_INDEX_KIND}:{path.resolve()}:{file_state(path.stat())}"
    except (OSError, tarfile.TarError):
        return None  # whoever reads it as shards says what is wrong
    index = kept_index(identity, lambda: read_archive(path), lambda index: is_current(index, path))
    return index if len(index.rows) else None


def flat_tar_images(location: str, path: Path, index: TarIndex) -> FlatImages:
    """The images of a flat tar, in the order of their names; they have no labels yet."""
    rows = index.rows[np.argsort(index.rows["path"], kind="stable")]
    return FlatImages(
        location=location,
        place=path,
        paths=tuple(name.decode() for name in rows["path"].tolist()),
        files=(str(path),),
        file_index=np.zeros(len(rows), dtype=np.int64),
        offsets=rows["offset"].copy(),
        sizes=rows["size"].copy(),
        left_out=index.left_out,
        shard_samples=SHARD_SAMPLES,
    )


def is_tar_of_tars(index: TarIndex) -> bool:
    """Whether an archive's index has labels, which its inner tars give."""
    return bool(index.rows["label"][0] != _NO_LABEL)


def _looks_like_archive(path: Path) -> bool:
    """Whether the first members are tars, or images without labels beside them; other files, such as a README, may be
    anywhere.
    """
    with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
        names = (member.name for member in tar if member.isfile() and not is_junk(member.name))
        telling = (name for name in names if is_image_name(name) or name.lower().endswith((_INNER, *_LABELS)))
        found = list(itertools.islice(telling, _TELLING))
    return bool(found) and (found[0].endswith(_INNER) or all(map(is_image_name, found)))


def read_archive(path: Path) -> TarIndex:
    """Index an archive; no rows for a flat tar that turns out to have labels beside its images. Raises DataError."""
    rows = _Rows([], [], [], [], [], Counter())
    inner: list[str] = []
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            for member in _members(file, 0, size, str(path), rows):
                if member.name.endswith(_INNER):
                    inner.append(Path(member.name).name.removesuffix(_INNER))
                    _add_class(file, member, inner[-1], len(inner) - 1, f"{path}: {member.name}", rows)
                elif is_image_name(member.name):
                    _add_image(rows, member, "", _NO_LABEL)
                elif member.name.lower().endswith(_LABELS):
                    return _index([], [], rows, path)
                else:
                    rows.left_out[kind_of(member.name)] += 1
    except tarfile.TarError as error:
        raise DataError(f"{path}: {error}; the tar is truncated or damaged, copy it again") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if inner and _NO_LABEL in rows.labels:
        raise DataError(
            f"{path}: holds tars and images side by side ({len(inner)} and {rows.labels.count(_NO_LABEL)}); wanted a "
            "tar for each class, or images alone"
        )
    return _index(inner, rows.paths, rows, path)


def _index(inner: list[str], paths: list[bytes], rows: _Rows, path: Path) -> TarIndex:
    """The index; labels, so far the inner tars' places in the archive, become those in the order of their names."""
    if repeated := [name for name, num in Counter(inner).items() if num > 1]:
        raise DataError(f"{path}: two tars of one class, {repeated[0]!r}; pack it again with each class once")
    table = np.empty(len(paths), dtype=[("path", f"S{max(map(len, paths), default=1)}"), *ROW_FIELDS])
    table["path"] = paths
    if paths:
        labels = np.array(rows.labels, dtype=np.int64)
        table["label"] = np.argsort(np.argsort(inner))[labels] if inner else labels
        table["offset"], table["size"] = rows.offsets, rows.sizes
    checked = sample_headers(rows.headers)
    return TarIndex(rows=table, left_out=dict(rows.left_out), checked=checked, digest=digest_of(path, checked))


def _add_class(file: BinaryIO, tar: tarfile.TarInfo, name: str, number: int, where: str, rows: _Rows) -> None:
    """Add the images of an inner tar."""
    before = len(rows.paths)
    for member in _members(file, tar.offset_data, tar.offset_data + tar.size, where, rows):
        if is_image_name(member.name):
            _add_image(rows, member, name + "/", number)
        else:
            rows.left_out[kind_of(member.name)] += 1
    if len(rows.paths) == before:
        raise DataError(f"{where}: a class without images; the archive is incomplete, copy it again")


def _add_image(rows: _Rows, member: tarfile.TarInfo, prefix: str, label: int) -> None:
    stem = member.name.removeprefix("./").lstrip("/").rpartition(".")[0]
    rows.paths.append((prefix + stem).encode())
    rows.labels.append(label)
    rows.offsets.append(member.offset_data)
    rows.sizes.append(member.size)


def _members(file: BinaryIO, start: int, end: int, where: str, rows: _Rows) -> Iterator[tarfile.TarInfo]:
    """The plain files of the tar that lies at some bytes of a file, their offsets counted from the file's start."""
    file.seek(start)
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            if member.isdir():
                continue
            rows.headers.append(member.offset_data - tarfile.BLOCKSIZE)
            if is_junk(member.name):
                rows.left_out[JUNK] += 1
                continue
            _check(member, end, where)
            yield member
        finish = tar.offset
    check_end(file, finish, end, where)


def _check(member: tarfile.TarInfo, end: int, where: str) -> None:
    """Raise DataError for what `check_member` refuses, and for a file that ends after its tar."""
    check_member(member, where)
    if member.offset_data + member.size > end:
        raise DataError(f"{where}: member {member.name!r} ends after its tar; the tar is truncated, copy it again")
