"""Index a tar by its headers: the offset of each sample's image, its label, and the files that are not samples."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from pld.errors import DataError
from pld.images.decode.image import IMAGE_EXTENSIONS
from pld.images.sources.forms.recognise import recognise_file
from pld.images.sources.image_files import JUNK, format_counts, is_junk, kind_of

ROW_FIELDS = [("label", "<i8"), ("offset", "<i8"), ("size", "<i8")]

# A row's label where its sample has no .cls.
NO_LABEL = -1

# No sane label takes more bytes; a hostile header can declare any size.
_MAX_LABEL_BYTES = 32
_MAX_LABEL = 2**63 - 1
_MAX_JSON_BYTES = 2**16

# A cached index is valid if these members are unchanged: pairs of neighbours (mostly an image and its label) spread
# over the tar from its first member to its last, each compared by its header and the block after it.
_CHECKED_PAIRS = 8
_CHECKED_BYTES = 2 * tarfile.BLOCKSIZE

_CHUNK_BYTES = 2**20

# The first bytes of compressed files, the compressor, and the command that unpacks them.
_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\0", "xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"\x04\x22\x4d\x18", "lz4", "unlz4"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TarIndex:
    """The samples of a tar.

    Attributes:
        rows: one (path, label, offset, size) per sample, in the tar's order; NO_LABEL where there is no .cls.
        left_out: the number of files that are not samples, by `kind_of`.
        checked: byte offsets of the headers that are compared to see whether the tar has changed.
        digest: SHA-256 of the bytes at these offsets.
    """

    rows: ndarray
    left_out: Mapping[str, int]
    checked: Int64[ndarray, "C"]
    digest: bytes


def is_current(index: TarIndex, path: Path) -> bool:
    """Whether the tar's checked members are still what they were when the index was made."""
    try:
        return digest_of(path, index.checked) == index.digest
    except OSError:
        return False


def digest_of(path: Path, checked: Int64[ndarray, "C"]) -> bytes:
    """The SHA-256 of the headers at these offsets, each with the block after it."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for offset in checked.tolist():
            digest.update(os.pread(file.fileno(), _CHECKED_BYTES, offset))
    return digest.digest()


@dataclasses.dataclass
class _Sample:
    offset: int = -1
    size: int = -1
    label: int = NO_LABEL


def read_tar(path: Path, shown: str | None = None) -> TarIndex:
    """Index a tar; see `tar_source` for its samples and errors.

    Args:
        path: the tar.
        shown: its name in errors, if that is not its path.
    """
    where = shown or str(path)
    samples: dict[str, _Sample] = {}
    left_out: Counter[str] = Counter()
    headers: list[int] = []
    described: dict[str, tarfile.TarInfo] = {}
    try:
        with tarfile.open(path, "r:", encoding="utf-8") as tar:
            for member in tar:
                if member.isdir():
                    continue
                headers.append(member.offset_data - tarfile.BLOCKSIZE)
                if is_junk(member.name):
                    left_out[JUNK] += 1
                    continue
                check_member(member, where)
                if not _add_member(samples, tar, member, where):
                    left_out[kind_of(member.name)] += 1
                    if member.name.rpartition("/")[2].partition(".")[2] == "json":
                        described[_key_of(member)] = member
            end = tar.offset
            _label_by_json(samples, described, tar)
        with path.open("rb") as file:
            check_end(file, end, path.stat().st_size, where)
        checked = sample_headers(headers)
        digest = digest_of(path, checked)
    except tarfile.TarError as error:
        advice = (
            recognise_file(path)
            or _diagnose_compression(path)
            or f"{error}; the tar is truncated or damaged, copy it again"
        )
        raise DataError(f"{where}: {advice}") from error
    except OSError as error:
        raise DataError(f"{where}: {error.strerror}") from error
    if not samples:
        found = f"; found {format_counts(left_out)}" if left_out else ""
        raise DataError(f"{where}: an empty shard{found}; wanted at least one image with its .cls")
    return TarIndex(rows=_to_rows(samples, where), left_out=left_out, checked=checked, digest=digest)


def _diagnose_compression(path: Path) -> str | None:
    """What to do about a tar that cannot be read because it is compressed."""
    with path.open("rb") as file:
        start = file.read(max(len(magic) for magic, _, _ in _COMPRESSED))
    for magic, name, unpack in _COMPRESSED:
        if start.startswith(magic):
            return f"{name}-compressed; samples are read at their offsets in the tar: unpack it with {unpack}"
    return None


def sample_headers(headers: Sequence[int]) -> Int64[ndarray, "C"]:
    """The headers that are compared to see whether a tar has changed."""
    if len(headers) <= 2 * _CHECKED_PAIRS:
        return np.array(headers, dtype=np.int64)
    firsts = np.linspace(0, len(headers) - 2, _CHECKED_PAIRS).astype(np.int64)
    return np.array(headers, dtype=np.int64)[np.stack([firsts, firsts + 1], axis=1).ravel()]


def check_member(member: tarfile.TarInfo, where: str) -> None:
    """Raise DataError for anything but a plain file whose name can be a key."""
    try:
        member.name.encode()
    except UnicodeEncodeError:
        name = member.name.encode(errors="surrogateescape")
        raise DataError(
            f"{where}: member {name!r}: its name is not UTF-8, as a sample's key must be; rename the file and pack it "
            "again"
        ) from None
    if member.issparse():
        raise DataError(
            f"{where}: member {member.name!r} is sparse, so its bytes are not those of the file; pack it again "
            "without tar's --sparse"
        )
    if not member.isfile():
        raise DataError(f"{where}: member {member.name!r} is a link or a device; wanted plain files")
    if member.size < 0:  # tarfile would go back and read the same member again, forever
        raise DataError(f"{where}: member {member.name!r} has {member.size} bytes; the tar is damaged, copy it again")


def _add_member(samples: dict[str, _Sample], tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> bool:
    """Add a member to its sample; False if it belongs to none."""
    stem, _, extension = member.name.rpartition("/")[2].partition(".")
    key = _key_of(member)
    if not stem:
        return False
    if extension.lower() in IMAGE_EXTENSIONS:
        sample = samples.setdefault(key, _Sample())
        if sample.offset >= 0:
            raise DataError(f"{where}: two samples with one key, {key!r}; wanted one image for each key")
        sample.offset, sample.size = member.offset_data, member.size
    elif extension.lower() == "cls":
        sample = samples.setdefault(key, _Sample())
        if sample.label != NO_LABEL:
            raise DataError(f"{where}: two samples with one key, {key!r}; wanted one .cls for each key")
        sample.label = _parse_label(tar, member, where)
    elif extension.lower().rpartition(".")[2] in (*IMAGE_EXTENSIONS, "cls"):
        raise DataError(
            f"{where}: {member.name}: a dot in the sample's name; webdataset takes everything after the first dot for "
            "the extension. Rename it, e.g. with a _ for the dot"
        )
    else:
        return False
    return True


def _key_of(member: tarfile.TarInfo) -> str:
    folder, _, name = member.name.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}".removeprefix("./").lstrip("/")


def _label_by_json(samples: dict[str, _Sample], described: dict[str, tarfile.TarInfo], tar: tarfile.TarFile) -> None:
    """Label samples without a .cls by the `label` of their .json, if it is a class index, as in timm's datasets."""
    for key in [key for key, sample in samples.items() if sample.label < 0 and key in described]:
        member = described[key]
        payload = tar.extractfile(member) if member.size <= _MAX_JSON_BYTES else None
        try:
            found = json.loads(payload.read())["label"] if payload else None
        except (ValueError, KeyError, TypeError, RecursionError):
            found = None
        if type(found) is int and 0 <= found <= _MAX_LABEL:
            samples[key].label = found


def _parse_label(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> int:
    payload = tar.extractfile(member) if member.size <= _MAX_LABEL_BYTES else None
    text = payload.read().strip() if payload else b""
    if not text.isdigit():
        raise DataError(f"{where}: {member.name}: found {text!r}, wanted a class index such as 7")
    if int(text) > _MAX_LABEL:
        raise DataError(
            f"{where}: {member.name}: found {int(text)}, wanted a class index such as 7, of 64 bits at most"
        )
    return int(text)


def check_end(file: BinaryIO, at: int, end: int, where: str) -> None:
    """Raise DataError unless a tar's members are followed by a block of zeros, with no other data after it.

    Python's tarfile accepts a tar cut between two members as complete, and reads only the first of two joined tars.

    Args:
        file: holds the tar.
        at: the byte after the last member.
        end: the byte after the tar.
        where: the tar's name in errors.
    """
    file.seek(at)
    if at > end or file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{where}: the tar is truncated: no end-of-archive marker at byte {at:,}; copy it again")
    at += tarfile.BLOCKSIZE
    while at < end and (chunk := file.read(min(_CHUNK_BYTES, end - at))):
        if rest := chunk.lstrip(b"\0"):
            first = at + len(chunk) - len(rest)
            file.seek(first)
            raise DataError(f"{where}: {_describe_trailing_data(file.read(tarfile.BLOCKSIZE), first)}")
        at += len(chunk)


def _describe_trailing_data(block: bytes, first: int) -> str:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return (
            f"a nonzero byte after the tar's end, byte {first:,}; the tar is damaged or was appended to: copy it again"
        )
    return (
        f"another tar begins at byte {first:,}, after the end of this one, as if joined by cat: readers see only the "
        "first. Join them with 'tar --concatenate', or name each of them"
    )


def _to_rows(samples: dict[str, _Sample], where: str) -> ndarray:
    for key, sample in samples.items():
        if sample.offset < 0:
            raise DataError(f"{where}: sample {key!r} has a .cls but no image; wanted {key}.jpg or similar")
    keys = [key.encode() for key in samples]
    rows = np.empty(len(keys), dtype=[("path", f"S{max(map(len, keys))}"), *ROW_FIELDS])
    rows["path"] = keys
    for field in ("label", "offset", "size"):
        rows[field] = [getattr(sample, field) for sample in samples.values()]
    return rows
