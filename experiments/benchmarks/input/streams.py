"""Endless streams of training batches, float32 and normalised: ours, and what else people use, at its best setting.

Every stream crops at random (area .08 to 1), resizes with antialiasing, flips half of the images and normalises, with
two workers or threads, in batches of 64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import webdataset
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torchvision import io, transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from experiments.benchmarks.training import BATCH, batches
from pld.views import Interpolation
from pld.views.colours import IMAGENET_MEAN, IMAGENET_STD
from pld.views.preprocessing import Preprocessing

WORKERS = 2
_ENDLESS = 10**7
Stream = Callable[[Path, int, Interpolation], Iterator[Tensor]]


def ours(folder: Path, side: int, interpolation: Interpolation) -> Iterator[Tensor]:
    """As train_student reads its images, normalised by the main process."""
    preprocessing = Preprocessing(input_size=(side, side), interpolation=interpolation)
    for batch in batches(folder, [preprocessing], workers=WORKERS, new_views=True):
        yield preprocessing.normalize(batch.images[0])


def _transform(side: int, interpolation: Interpolation) -> Any:
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(side, interpolation=transforms.InterpolationMode(interpolation)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def imagefolder(folder: Path, side: int, interpolation: Interpolation) -> Iterator[Tensor]:
    """torchvision's ImageFolder under DataLoader, as its training references use it."""
    return _folder(ImageFolder(folder / "images", _transform(side, interpolation)))


def imagefolder_tensors(folder: Path, side: int, interpolation: Interpolation) -> Iterator[Tensor]:
    """The same with torchvision's own decoder and transforms of tensors in place of Pillow's."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(side, interpolation=v2.InterpolationMode(interpolation), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    return _folder(ImageFolder(folder / "images", transform, loader=_decode))


def _decode(path: str) -> Tensor:
    return io.decode_image(io.read_file(path), io.ImageReadMode.RGB)


def _folder(dataset: ImageFolder) -> Iterator[Tensor]:
    sampler = RandomSampler(dataset, replacement=True, num_samples=_ENDLESS)
    for images, _ in DataLoader(dataset, BATCH, sampler=sampler, num_workers=WORKERS):
        yield images


def webdataset_pipeline(folder: Path, side: int, interpolation: Interpolation) -> Iterator[Tensor]:
    """webdataset's usual pipeline over the shards."""
    shards = sorted(map(str, (folder / "shards").glob("*.tar")))
    samples = (
        webdataset.WebDataset(shards, resampled=True, shardshuffle=False)
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg", "cls")
        .map_tuple(_transform(side, interpolation), functools.partial(int))
        .batched(BATCH)
    )
    for images, _ in webdataset.WebLoader(samples, batch_size=None, num_workers=WORKERS):
        yield images


def dali(folder: Path, side: int, interpolation: Interpolation) -> Iterator[Tensor]:
    """DALI on the CPU, whose decoder knows the crop. Its tensors are not copied: the next batch overwrites them."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=BATCH, num_threads=WORKERS, device_id=None)
    def pipeline() -> Any:
        encoded, labels = fn.readers.file(file_root=str(folder / "images"), random_shuffle=True)
        cropped = fn.decoders.image_random_crop(
            encoded, output_type=types.RGB, random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3]
        )
        kinds = {"bilinear": types.INTERP_LINEAR, "bicubic": types.INTERP_CUBIC}
        resized = fn.resize(cropped, size=(side, side), interp_type=kinds[interpolation], antialias=True)
        scaled = {"mean": [255 * x for x in IMAGENET_MEAN], "std": [255 * x for x in IMAGENET_STD]}
        return fn.crop_mirror_normalize(resized, mirror=fn.random.coin_flip(), output_layout="CHW", **scaled), labels

    running = pipeline()
    running.build()
    while True:
        images, _ = running.run()
        yield torch.from_dlpack(images.as_tensor())


STREAMS: dict[str, Stream] = {
    "ours": ours,
    "ImageFolder": imagefolder,
    "ImageFolder, tensors": imagefolder_tensors,
    "webdataset": webdataset_pipeline,
    "DALI": dali,
}
