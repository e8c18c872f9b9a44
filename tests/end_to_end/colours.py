"""A dataset that a small teacher knows for sure: each class is a colour, and each image a noisy square of it."""

import io
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from pld.views.preprocessing import Preprocessing
from tests.making import SIDE, write_tar
from train_student.model.student import export

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen")
_COLOURS = np.array(
    [
        (230, 40, 40),
        (40, 230, 40),
        (40, 40, 230),
        (230, 230, 40),
        (230, 40, 230),
        (40, 230, 230),
        (20, 20, 20),
        (235, 235, 235),
    ]
)
_SMALL = {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16), "stem_width": 8}


def square(label: int, seed: int, form: str = "PNG", **settings) -> bytes:
    """An encoded image of a class."""
    rng = np.random.default_rng(1000 * label + seed)
    pixels = np.clip(_COLOURS[label] + rng.integers(-20, 20, (40, 44, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **settings)
    return buffer.getvalue()


def colour_folder(root: Path, names=NAMES, each: int = 6, first: int = 0) -> Path:
    """Class folders of squares, numbered anew in each."""
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            (root / name / f"{i:03d}.png").write_bytes(square(NAMES.index(name), first + i))
    return root


def colour_tar(path: Path, numbers: dict[str, int], each: int = 6, first: int = 0) -> Path:
    """A tar of squares whose .cls say the given numbers."""
    members = {}
    for name, number in numbers.items():
        for i in range(first, first + each):
            members[f"{name}-{i:03d}.png"] = square(NAMES.index(name), i)
            members[f"{name}-{i:03d}.cls"] = str(number).encode()
    return write_tar(path, members)


def sure_teacher(folder: Path, names=NAMES, *, stated: bool = True) -> Path:
    """A teacher that knows the colours, its classes in the order of `names`, and whether its folder states them."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=len(names), **_SMALL)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    labels = torch.arange(len(names)).repeat(6)
    rng = torch.Generator().manual_seed(0)
    colours = torch.tensor(_COLOURS[[NAMES.index(name) for name in names]] / 255.0, dtype=torch.float32)[labels]
    preprocessing = Preprocessing(input_size=(SIDE, SIDE))
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    for _ in range(40):
        noise = 0.08 * torch.randn(len(labels), 3, SIDE, SIDE, generator=rng)
        images = (colours - mean).div(std)[:, :, None, None] + noise
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    export(model.eval(), preprocessing, tuple(names) if stated else None, folder)
    return folder


def sure_code() -> str:
    """A module whose function `build` returns a teacher that knows the colours, for `--teacher python:`."""
    return f"""
import os
import time

import torch


class Nearest(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("colours", torch.tensor({(_COLOURS / 255).tolist()}))

    def forward(self, images):
        time.sleep(float(os.environ.get("PAUSE", "0")))
        return -40.0 * torch.cdist(images.mean((2, 3)), self.colours)


def build():
    preprocessing = {{"input_size": ({SIDE}, {SIDE}), "mean": (0, 0, 0), "std": (1, 1, 1)}}
    return Nearest(), preprocessing, {list(NAMES)}
"""
