"""Images to measure with: those that the environment names, repeated until there are enough, or generated ones."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from pld.images import open_source
from pld.images.sources.tar_members import image_extension
from tests.making import write_tar

SHARD_SAMPLES = 400
NUM_CLASSES = 1000  # ImageNet's; labels are their numbers
# Height and width of generated images, by the variable that names others as --data does.
_SIZES = {"PHOTOS": (390, 466), "SMALL": (64, 64)}


def write_images(variable: str, folder: Path, num: int) -> str:
    """`num` images in ImageFolder's layout under `folder`/images and in tar shards under `folder`/shards.

    Args:
        variable: PHOTOS or SMALL, the environment variable that names the images; without it they are generated.
        folder: an empty one.
        num: how many.

    Returns:
        A line that says what they are.
    """
    images, described = read_or_generate(variable, num)
    members: dict[str, bytes] = {}
    for number in range(num):
        content, label = images[number % len(images)]
        name = f"{number:06d}"
        place = folder / "images" / f"{label:04d}" / f"{name}.{image_extension(content)}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        members |= {f"{name}.{image_extension(content)}": content, f"{name}.cls": str(label).encode()}
        if len(members) == 2 * SHARD_SAMPLES or number == num - 1:
            write_tar(folder / "shards" / f"train-{number // SHARD_SAMPLES:04d}.tar", members)
            members = {}
    class_names = [str(label) for label in range(NUM_CLASSES)]
    (folder / "shards" / "dataset.json").write_text(json.dumps({"class_names": class_names}))
    return described


def read_or_generate(variable: str, num: int) -> tuple[list[tuple[bytes, int]], str]:
    """Encoded images and labels, at most `num`, to be repeated until there are enough; and a line that says so."""
    location, size = os.environ.get(variable), _SIZES[variable]
    images = _read(location, num) if location else _generate(min(num, 64), size)
    mean = sum(len(content) for content, _ in images) / len(images)
    kind = "given" if location else f"generated, {size[1]} x {size[0]}"
    times = -(-num // len(images))
    return images, f"{num} images: {len(images)} {kind}, of {mean / 1000:.0f} kB on average, each up to {times} times"


def _read(location: str, num: int) -> list[tuple[bytes, int]]:
    source = open_source(location)
    rows = np.random.default_rng(0).permutation(len(source))[:num]
    return [(source.read(row), int(source.labels[row])) for row in rows.tolist()]


def _generate(num: int, size: tuple[int, int]) -> list[tuple[bytes, int]]:
    """As many bytes a pixel as a photo has: coarse shapes and some grain."""
    rng, images = np.random.default_rng(0), []
    for label in range(num):
        coarse = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)).resize(
            size[::-1], Image.Resampling.BICUBIC
        )
        grain = np.asarray(coarse) + rng.normal(0, 9, (*size, 3))
        buffer = io.BytesIO()
        Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        images.append((buffer.getvalue(), label % 10))
    return images
