"""Small datasets and models that tests make for themselves."""

import io
import tarfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from pld.views.preprocessing import Preprocessing
from train_student.model.student import export

NUM_CLASSES = 12
SIDE = 32


def jpeg(seed: int, size: tuple[int, int] = (40, 48)) -> bytes:
    """A smooth random photo, (height, width) pixels."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def encoded(image: Image.Image, form: str = "JPEG", **settings) -> bytes:
    """An image as Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


def reencoded(data: bytes) -> bytes:
    """An image of nearly the same pixels."""
    return encoded(Image.open(io.BytesIO(data)), quality=80)


def with_pillow(data: bytes) -> np.ndarray:
    """The RGB pixels that Pillow reads, [H, W, 3]."""
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def shard_members(first: int, num: int, split: str = "train") -> dict[str, bytes]:
    """Samples first..first+num-1: images of different sizes, labels in turn."""
    members = {}
    for i in range(first, first + num):
        members[f"{split}-{i:04d}.jpg"] = jpeg(i, (36 + i % 7, 40 + i % 11))
        members[f"{split}-{i:04d}.cls"] = str(i % NUM_CLASSES).encode()
    return members


def make_dataset(folder: Path, shard_sizes: tuple[int, ...] = (24, 17, 30), num_val: int = 13) -> Path:
    """Tar shards train-*.tar and val-0000.tar."""
    first = 0
    for i, num in enumerate(shard_sizes):
        write_tar(folder / f"train-{i:04d}.tar", shard_members(first, num))
        first += num
    write_tar(folder / "val-0000.tar", shard_members(0, num_val, "val"))
    return folder


def make_teacher(folder: Path, seed: int = 0, num_classes: int = NUM_CLASSES, spread: float = 2.0) -> Path:
    """An untrained teacher's folder, as train_student exports one; its logits are spread as a trained one's are.

    So it is as sure as a trained one, and caching stops it unless labels may be wrong; with a small spread it is not.
    """
    torch.manual_seed(seed)
    model = timm.create_model(
        "resnet18", num_classes=num_classes, layers=(1, 1, 1, 1), channels=(8, 8, 16, 16), stem_width=8
    )
    torch.nn.init.normal_(model.get_classifier().weight, std=spread)
    export(model, Preprocessing(input_size=(SIDE, SIDE)), None, folder)
    return folder


def make_store(world: Path, name: str = "store", **settings: object) -> Path:
    """A store of the teacher `teacher` over the dataset `data`, all in the folder `world`."""
    base = {"teacher": f"local-dir:{world / 'teacher'}", "data": str(world / "data"), "threads": 1}
    cache(CacheConfig(**{**base, "store": str(world / name), "allow_wrong_labels": True, **settings}))
    return world / name


STUDENT = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_width": 8}


def student_settings(world: Path, run: Path, **settings: object) -> dict[str, object]:
    """Settings of TrainConfig for a run of two short epochs on the test world."""
    base = {
        "data": str(world / "data"),
        "store": str(world / "full"),
        "model": "resnet18",
        "model_kwargs": STUDENT,
        "num_classes": NUM_CLASSES,
        "image_size": SIDE,
        "epochs": 2,
        "batch_size": 16,
        "opt": "adamw",
        "lr": 1e-3,
        "warmup_epochs": 0,
        "workers": 0,
        "streams": 4,
        "output": str(run),
    }
    return {**base, **settings}
