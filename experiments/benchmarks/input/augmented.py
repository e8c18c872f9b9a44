"""Endless streams of strongly augmented batches, float32 and normalised: ours, and timm's transforms in ImageFolder.

Both crop, flip and do the same further steps with the same parameters, bicubically, with two workers, in batches of 64.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from timm.data import Mixup, auto_augment
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import ImageFolder

from experiments.benchmarks.input.photos import NUM_CLASSES
from experiments.benchmarks.training import BATCH, batches
from pld.views.preprocessing import Preprocessing

WORKERS, SIDE = 2, 224
STRONG = "rrc,flip,rand-m9-mstd0.5-inc1,jitter-0.4,erase-0.25"
MIXED = "rrc,flip,mixup-0.8,cutmix-1.0"
_ENDLESS = 10**7


def ours(place: Path, policy: str = "rrc,flip", *, views_per_image: int = 1) -> Iterator[Tensor]:
    """As train_student reads its images, normalised by the main process."""
    preprocessing = Preprocessing(input_size=(SIDE, SIDE))
    options: dict[str, Any] = {"policy": policy, "views_per_image": views_per_image}
    for batch in batches(place, [preprocessing], workers=WORKERS, new_views=True, **options):
        yield preprocessing.normalize(batch.images[0])


def timm_strong(place: Path) -> Iterator[Tensor]:
    """STRONG by timm: what its create_transform calls, which would leave the jitter out beside RandAugment."""
    auto_augment.NAME_TO_OP["PosterizeIncreasing"] = _posterize
    return _folder(
        place,
        auto_augment="rand-m9-mstd0.5-inc1",
        color_jitter=0.4,
        force_color_jitter=True,
        re_prob=0.25,
        re_mode="pixel",
    )


def timm_mixed(place: Path) -> Iterator[Tensor]:
    """MIXED by timm: its Mixup blends a batch with itself in reverse, with one share for all, its cheapest mode."""
    mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=NUM_CLASSES)
    for images, labels in _loader(place, color_jitter=None):
        yield mixup(images, labels)[0]


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """timm's, but that 0 bits, which RandAugment of magnitude 10 asks for and Pillow 13 refuses, are black."""
    return ImageOps.posterize(image, bits) if bits else Image.new("RGB", image.size)


def _folder(place: Path, **settings: Any) -> Iterator[Tensor]:
    for images, _ in _loader(place, **settings):
        yield images


def _loader(place: Path, **settings: Any) -> DataLoader[Any]:
    transform = transforms_imagenet_train(SIDE, interpolation="bicubic", **settings)
    dataset = ImageFolder(place / "images", transform)
    sampler = RandomSampler(dataset, replacement=True, num_samples=_ENDLESS)
    return DataLoader(dataset, BATCH, sampler=sampler, num_workers=WORKERS)
