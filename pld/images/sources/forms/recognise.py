"""Recognise files and folders that --data cannot open, by first bytes or names, and say what to do with them."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from pld.images.decode.diagnosis import image_format

_FIRST_BYTES = 4096
_FIRST_NAMES = 200

# What other tools' datasets become, in words that hold for all of them.
_CONVERT = "write its images to class folders or to a CSV of path,label lines"
_CIFAR = (
    "CIFAR as pickles, which can run any code when they are opened and so are not read; take its Parquet files "
    "instead, hf download uoft-cs/cifar10 --repo-type dataset --local-dir cifar10 (or cifar100), and write shards, "
    "pld data cifar10 --shards OUT"
)
_MODEL = "a model, no images; a teacher's weights go with --teacher NAME --weights FILE"

# The first bytes of files, and what they are.
_STARTS = (
    (rb"PAR1", "a Parquet file; write tar shards of it, pld data FILE --shards OUT, and name OUT instead"),
    (rb"ARROW1\0\0", f"an Arrow file; save it with datasets' save_to_disk and name that folder, or {_CONVERT}"),
    (rb"\xff\xff\xff\xff.{2}\0\0", "an Arrow stream; name the folder that holds it and its state.json"),
    (rb"\x89HDF\r\n\x1a\n", f"an HDF5 file; {_CONVERT}"),
    (rb"\x93NUMPY", f"a NumPy array; {_CONVERT}"),
    (rb"\x80[\x02-\x05].{0,400}(batch_label|fine_label|coarse_label)", _CIFAR),
    (rb"PK\x03\x04.{26,200}\.npy", f"NumPy arrays in an .npz; {_CONVERT}"),
    (rb"PK\x03\x04.{26,200}(data\.pkl|/version|constants\.pkl)", f"a PyTorch file, probably {_MODEL}"),
    (rb"PK\x03\x04", "a ZIP archive; unpack it, unzip FILE, and name the folder"),
    (rb"\x80[\x02-\x05]", f"a pickle, which can run any code when it is opened and so is not read; {_CONVERT}"),
    (rb".{6}\0\0\{\s*\"", f"a safetensors file, {_MODEL}"),
    (rb"version https://git-lfs", "a Git LFS pointer in place of the file; fetch it with git lfs pull"),
    (rb"7z\xbc\xaf\x27\x1c|Rar!", "a compressed archive; unpack it and name the folder"),
    (rb"\s*(<!DOCTYPE|<html)", "a web page, probably an error of the server's; download the file again"),
)
# The same by the name's end.
_NAMES = (
    (r".*\.onnx", "an ONNX file: a model, no images"),
    (r".*\.(pth|pt|bin|ckpt|safetensors)", _MODEL),
    (r"ILSVRC2012_devkit_.*", "the labels of ImageNet's validation images; name ILSVRC2012_img_val.tar beside it"),
    (r".*\.(tsv|txt|json|jsonl)", "a text file; wanted a CSV file, .csv, of path,label lines"),
    (r"(data_batch_\d|test_batch|batches\.meta)", _CIFAR),
    (r".*\.tfrecords?(-\d+-of-\d+)?(\.gz)?", f"TFRecords; {_CONVERT}"),
    (r".*\.mdb", f"an LMDB database; {_CONVERT}"),
)


def recognise_file(path: Path) -> str | None:
    """What a file is and what to do; None for a file that may be a tar, or is unknown."""
    try:
        with path.open("rb") as file:
            start = file.read(_FIRST_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return None
    if form := image_format(start):
        return f"a single image, a {form}; wanted the folder that holds the class folders"
    found = next((words for pattern, words in _STARTS if re.match(pattern, start, re.DOTALL)), None)
    found = found or next((words for pattern, words in _NAMES if re.fullmatch(pattern, path.name)), None)
    if found is None and _is_tfrecord(start, size):
        found = f"TFRecords; {_CONVERT}"
    return found.replace("FILE", str(path)) if found else None


def recognise_folder(folder: Path) -> str | None:
    """What a folder without class folders and tars is, and what to do; None if that is unknown."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in itertools.islice(entries, _FIRST_NAMES) if entry.is_file())
    held = set(names)
    if "data.mdb" in held:
        return f"an LMDB database; {_CONVERT}"
    if {"train", "test", "meta"} <= held or {"data_batch_1", "test_batch"} & held:
        return _CIFAR
    if "config.json" in held and any(name.endswith((".safetensors", ".bin")) for name in names):
        return f"a model's folder, no images; to use it as a teacher: --teacher local-dir:{folder}"
    for name in names:
        if name.lower().endswith(".csv"):
            return (
                f"a folder without class folders that holds {name}; if that has path,label lines, name {folder / name}"
            )
        if words := recognise_file(folder / name):
            return f"a folder without class folders; {name} in it is {words}"
    return None


def _is_tfrecord(start: bytes, size: int) -> bool:
    """Whether the first record's length fits the file, and it begins as a protobuf message of features does."""
    length = int.from_bytes(start[:8], "little")
    return len(start) > 12 and 0 < length <= size - 16 and start[12] == 0x0A
