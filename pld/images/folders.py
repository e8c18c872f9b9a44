"""Image folders in ImageFolder's layout: one folder per class, its name the class's name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pld.errors import DataError
from pld.images.decode import IMAGE_EXTENSIONS
from pld.images.source import WHOLE_FILE, ImageShard, Source, unique_keys

# Files in one shard of a folder: large enough for small overheads, small enough to be lost in a crash.
SHARD_SAMPLES = 1000


def folder_source(location: str, folder: Path) -> Source:
    """A Source over `folder/CLASS/**/IMAGE`: labels number the class folders in sorted order.

    Files are sorted by relative path and cut into shards of SHARD_SAMPLES. Files without one of IMAGE_EXTENSIONS are
    no samples. Links to folders are followed, as torchvision's ImageFolder does.

    Raises:
        DataError: no class folders, a class without images, or two samples with one key.
    """
    class_names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    if not class_names:
        raise DataError(f"{folder}: no class folders and no tar shards; wanted CLASS/IMAGE.jpg or SHARD.tar in it")
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = _image_files(folder / name)
        if not found:
            raise DataError(f"{folder / name}: a class without images; remove the folder or fill it")
        files += found
        labels += [label] * len(found)
    order = sorted(range(len(files)), key=lambda i: files[i])
    files, labels = [files[i] for i in order], [labels[i] for i in order]
    relative = [os.path.splitext(os.path.relpath(path, folder))[0].encode() for path in files]  # noqa: PTH122
    num = len(files)
    return Source(
        location=location,
        shards=tuple(
            ImageShard(f"{folder.name}-{first // SHARD_SAMPLES:06d}", min(SHARD_SAMPLES, num - first))
            for first in range(0, num, SHARD_SAMPLES)
        ),
        keys=unique_keys(relative, files),
        labels=np.array(labels, dtype=np.int64),
        files=tuple(files),
        file_index=np.arange(num),
        offsets=np.zeros(num, dtype=np.int64),
        sizes=np.full(num, WHOLE_FILE, dtype=np.int64),
        class_names=tuple(class_names),
        shuffle_window=-(-num // SHARD_SAMPLES),  # sorted by class: anything less would train on some classes first
    )


def _image_files(folder: Path) -> list[str]:
    return [
        os.path.join(root, name)  # noqa: PTH118 - a million Path objects are slow
        for root, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS
    ]
