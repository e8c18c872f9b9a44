"""`glyphs`, the embedded dataset: printable ASCII characters as small images, in tar shards made on first use."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import simplejpeg

from pld.errors import DataError
from pld.files import write_atomically
from pld.images.sources.glyph_rendering import CHARACTERS, Glyph, load_glyphs, render_glyph
from pld.images.sources.tar_members import add_member
from pld.progress import progress
from pld.randomness import permutation
from pld.remote.cache_folder import cache_folder

VERSION = 1
NUM_TRAIN = 28_200
NUM_VAL = 5_640
SIZE = 32
SHARD_SAMPLES = 1_410

# Characters must not be mirrored. A crop this mild leaves most of a character that fills half the image or more.
_VIEW_POLICY = {"name": "random_resized_crop", "scale": [0.5, 1.0], "ratio": [0.85, 1.1765], "flip": False}
_JPEG_QUALITY = 92


def glyphs_folder() -> Path:
    """Where the dataset is, $PLD_CACHE (or ~/.cache/pld)/glyphs-v1-...; it is made there on first use.

    Raises:
        DataError: it has to be made, and matplotlib is not installed or the folder cannot be written.
    """
    folder = cache_folder() / f"glyphs-v{VERSION}-{SIZE}px-{NUM_TRAIN}-{NUM_VAL}"
    if not _is_finished(folder):
        write_glyphs(folder)
    return folder


def write_glyphs(
    folder: Path, *, num_train: int = NUM_TRAIN, num_val: int = NUM_VAL, size: int = SIZE, seed: int = 0
) -> None:
    """Draw the dataset into a folder: train-0000.tar, ..., val-0000.tar, ... (KEY.jpg, KEY.cls) and dataset.json.

    The same arguments and library versions give the same bytes. The folder appears complete or not at all; of several
    processes that make it at once, the first to finish wins and the others' copies are dropped.

    Args:
        folder: must not exist yet, or be empty.
        num_train: images in the training split, dealt evenly to the 94 classes.
        num_val: images in the validation split, which are other draws than the training split's.
        size: side of an image in pixels.
        seed: another seed gives other images of the same kind.

    Raises:
        DataError: the folder is not empty or cannot be written, or matplotlib is not installed.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: not empty; remove it, or name another folder for the glyphs")
    glyphs = load_glyphs()
    try:
        # One thread: about 10 s. Two are slower, since most of the work holds the GIL; processes would need a main
        # guard in the program of whoever opens the dataset.
        with write_atomically(folder) as temporary, progress(num_train + num_val, "drawing glyphs") as bar:
            temporary.mkdir()
            for split, count in (("train", num_train), ("val", num_val)):
                _write_split(temporary, split, count, glyphs, size, seed, bar.update)
            described = {"class_names": list(CHARACTERS), "view_policy": _VIEW_POLICY}
            text = json.dumps({"name": "glyphs", "version": VERSION, **described}, indent=2) + "\n"
            (temporary / "dataset.json").write_text(text, encoding="utf-8")
    except OSError as error:
        # A folder with files is not replaced: another process may have finished its copy meanwhile.
        if not _is_finished(folder):
            raise DataError(f"{folder}: the glyphs could not be written: {error}") from error


def _write_split(
    folder: Path,
    split: str,
    count: int,
    glyphs: Mapping[str, Sequence[Glyph]],
    size: int,
    seed: int,
    on_images: Callable[[int], object],
) -> None:
    """Deal `count` samples to the classes evenly, shuffle their order, and write them in shards."""
    identity = f"glyphs/{VERSION}/{seed}/{split}"
    labels = (permutation(count, f"{identity}/order") % len(CHARACTERS)).tolist()
    for number, first in enumerate(range(0, count, SHARD_SAMPLES)):
        shard = labels[first : first + SHARD_SAMPLES]
        with tarfile.open(folder / f"{split}-{number:04d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for index, label in enumerate(shard, start=first):
                image = render_glyph(glyphs[CHARACTERS[label]], f"{identity}/{index}", size)
                jpeg = simplejpeg.encode_jpeg(image, quality=_JPEG_QUALITY, colorsubsampling="444")
                add_member(tar, f"{split}-{index:06d}.jpg", jpeg)
                add_member(tar, f"{split}-{index:06d}.cls", str(label).encode())
        on_images(len(shard))


def _is_finished(folder: Path) -> bool:
    return (folder / "dataset.json").is_file()
