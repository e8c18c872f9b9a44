"""ImageNet's development kit, ILSVRC2012_devkit_t12.tar.gz: the classes of the validation images, in their order."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

from pld.errors import DataError
from pld.extras import needs_extra

DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_TRUTH, _CLASSES = "data/ILSVRC2012_validation_ground_truth.txt", "data/meta.mat"

# The kit has a few megabytes. Numbers above 1000 are inner nodes of WordNet's tree.
_MAX_BYTES = 2**27
_NUM_CLASSES = 1000


class Devkit(NamedTuple):
    """The WordNet ids of the images, in the order of the images' names, and of all classes, sorted."""

    labels: tuple[str, ...]
    class_names: tuple[str, ...]


def read_devkit(path: Path) -> Devkit:
    """Read the archive, or the folder that it unpacks to.

    Raises:
        DataError: it cannot be read, or lacks a file or a class.
        ConfigError: scipy, which reads meta.mat, is not installed.
    """
    if (path / DEVKIT).is_file():
        raise DataError(f"{path}: a folder; name the archive in it, --labels {path / DEVKIT}")
    try:
        truth, classes = _read_folder(path) if path.is_dir() else _read_archive(path)
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as ImageNet's {DEVKIT}: {error}; get it again") from error
    numbers = truth.split()
    if not numbers or not all(number.isdigit() and len(number) < 8 for number in numbers):
        raise DataError(f"{path}: {_TRUTH}: wanted a class number in each line; get the archive again")
    names = _parse_classes(classes, path)
    if unknown := sorted({int(number) for number in numbers} - names.keys()):
        raise DataError(
            f"{path}: {_TRUTH} has class {unknown[0]}, which {_CLASSES} does not name; get the archive again"
        )
    return Devkit(tuple(names[int(number)] for number in numbers), tuple(sorted(names.values())))


def _read_folder(path: Path) -> list[bytes]:
    """The contents of the two files."""
    contents = []
    for name in (_TRUTH, _CLASSES):
        with (path / name).open("rb") as file:
            contents.append(_bounded(file.read(_MAX_BYTES + 1)))
    return contents


def _read_archive(path: Path) -> list[bytes]:
    """The contents of the two files; the whole archive is read, which checks its checksum."""
    with gzip.open(path) as packed:
        whole = _bounded(packed.read(_MAX_BYTES + 1))
    with tarfile.open(fileobj=io.BytesIO(whole), mode="r:", encoding="utf-8") as tar:
        members = {member.name: member for member in tar if member.isfile()}
        found = {wanted: name for wanted in (_TRUTH, _CLASSES) for name in members if f"/{name}".endswith(f"/{wanted}")}
        files = [tar.extractfile(members[found[wanted]]) for wanted in (_TRUTH, _CLASSES)]
        return [file.read() if file else b"" for file in files]


def _bounded(content: bytes) -> bytes:
    if len(content) > _MAX_BYTES:
        raise OSError(f"more than {_MAX_BYTES:,} bytes")
    return content


def _parse_classes(content: bytes, path: Path) -> dict[int, str]:
    """The WordNet id of each class number, from the table `synsets` of a MATLAB file."""
    with needs_extra("report", f"{path}: reading {_CLASSES}"):
        from scipy.io import loadmat
    try:
        table = loadmat(io.BytesIO(content), variable_names=["synsets"], squeeze_me=True)["synsets"]
        pairs = zip(table["ILSVRC2012_ID"].ravel().tolist(), table["WNID"].ravel().tolist(), strict=True)
        names = {int(number): str(name) for number, name in pairs if int(number) <= _NUM_CLASSES}
    except Exception as error:  # a damaged file can make scipy's reader raise anything
        raise DataError(f"{path}: {_CLASSES} cannot be read: {error!r}; get the archive again") from error
    if not names or len(set(names.values())) < len(names):
        raise DataError(f"{path}: {_CLASSES}: wanted a different WordNet id for each class; get the archive again")
    return names
