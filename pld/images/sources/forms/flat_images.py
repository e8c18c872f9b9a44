"""Images without class folders, from a folder or a tar, which get their labels from a file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from pld.classes.matching import shorten_list
from pld.classes.names import check_names
from pld.errors import ConfigError, DataError
from pld.images.sources.folders import SHARD_SAMPLES, StatedClasses
from pld.images.sources.image_files import list_images
from pld.images.sources.keys import sample_keys
from pld.images.sources.source import WHOLE_FILE, ImageShard, Source


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FlatImages:
    """Images in the order of their paths.

    Attributes:
        location: the user's name for the dataset, for messages.
        place: the folder or the tar.
        paths: of each image in the place, without extension.
        files: as a Source's, like the next three.
        file_index: int64 [N].
        offsets: int64 [N].
        sizes: int64 [N].
        left_out: the number of other files, by kind.
        shard_samples: images in a shard.
    """

    location: str
    place: Path
    paths: tuple[str, ...]
    files: tuple[str, ...]
    file_index: Int64[ndarray, "N"]
    offsets: Int64[ndarray, "N"]
    sizes: Int64[ndarray, "N"]
    left_out: Mapping[str, int]
    shard_samples: int = SHARD_SAMPLES

    def extensions(self) -> list[str]:
        """Of each image's file, with the dot; empty in a tar."""
        return [
            os.path.splitext(self.files[i])[1] if size == WHOLE_FILE else ""  # noqa: PTH122
            for i, size in zip(self.file_index.tolist(), self.sizes.tolist(), strict=True)
        ]

    def source(
        self, labels: Int64[ndarray, "N"] | None, class_names: tuple[str, ...] | None, notes: Sequence[str] = ()
    ) -> Source:
        """The Source of these images with their labels; raises DataError if two have one key."""
        num, size = len(self.paths), self.shard_samples
        stem = self.place.name.removesuffix(".tar")
        where = [self.files[i] for i in self.file_index.tolist()]
        return Source(
            location=self.location,
            shards=tuple(ImageShard(f"{stem}-{i // size:06d}", min(size, num - i)) for i in range(0, num, size)),
            keys=sample_keys([path.encode() for path in self.paths], where),
            labels=labels,
            files=self.files,
            file_index=self.file_index,
            offsets=self.offsets,
            sizes=self.sizes,
            class_names=class_names,
            shuffle_window=-(-num // size),  # files may be sorted by class
            left_out=self.left_out,
            notes=tuple(notes),
        )


def flat_folder_images(location: str, folder: Path) -> FlatImages:
    """The images in a folder and its subfolders; raises what `list_images` does."""
    found = list_images(folder)
    return whole_files(location, folder, found.files, found.left_out)


def whole_files(location: str, folder: Path, files: Sequence[str], left_out: Mapping[str, int]) -> FlatImages:
    """Image files below a folder, whose paths begin with it."""
    start = len(os.path.join(folder, ""))  # noqa: PTH118
    num = len(files)
    return FlatImages(
        location=location,
        place=folder,
        paths=tuple(os.path.splitext(file[start:])[0] for file in files),  # noqa: PTH122 - a million Paths are slow
        files=tuple(files),
        file_index=np.arange(num),
        offsets=np.zeros(num, dtype=np.int64),
        sizes=np.full(num, WHOLE_FILE, dtype=np.int64),
        left_out=left_out,
    )


def number_classes(
    names: Sequence[str], stated: StatedClasses | None, where: str
) -> tuple[Int64[ndarray, "N"], tuple[str, ...]]:
    """The numbers of samples' classes, and the class names: the stated ones, else those that occur, sorted as text.

    Raises:
        DataError: a class is not among those stated, or has an empty name.
    """
    try:
        classes = stated.names if stated else check_names(sorted(set(names)), where)
    except ConfigError as error:
        raise DataError(str(error)) from error
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := sorted(set(names) - numbers.keys()):
        origin = stated.origin if stated else "the dataset"
        raise DataError(
            f"{where}: {len(unknown)} classes, {shorten_list(unknown)}, that {origin} does not list; it has "
            f"{len(classes)}: {shorten_list(classes)}. List all classes in a file: --class_names FILE"
        )
    return np.array([numbers[name] for name in names], dtype=np.int64), classes
