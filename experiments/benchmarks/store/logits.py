"""A teacher's logits for 1,250 samples x 8 views, of photos where there are some, else made up, and a store of many."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pld.images import Source, open_source
from pld.images.dataset import read_image
from pld.remote.cache_folder import cache_folder
from pld.signals import TopK
from pld.store import Shard, StoreWriter, dataset_digest
from pld.teachers import Teacher, build_teacher
from pld.views import apply_view, draw_view
from tests.store.world import World

NUM_CLASSES, NUM_SAMPLES, NUM_VIEWS = 1000, 1250, 8
TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 4.0)
ARCHITECTURE = "tf_efficientnet_lite2"


@dataclasses.dataclass(frozen=True)
class Logits:
    """float32 [views, samples, classes], the samples' labels, and where they come from."""

    values: torch.Tensor
    labels: torch.Tensor
    origin: str


def logits() -> Logits:
    """Of $PHOTOS by $TEACHER (lite2 if not set) with $WEIGHTS, as pld's commands take them; made up without $PHOTOS."""
    if photos := os.environ.get("PHOTOS"):
        return of_photos(photos, os.environ.get("TEACHER", ARCHITECTURE), os.environ.get("WEIGHTS"))
    return made_up()


def of_photos(photos: str, name: str, weights: str | None) -> Logits:
    """A sample is a photo in 8 of its random views; a photo has as many samples as it takes to come to 1,250."""
    source, teacher = open_source(photos), build_teacher(name, weights)
    rows = np.random.default_rng(0).permutation(len(source))[:NUM_SAMPLES]
    views_each = -(-NUM_SAMPLES // len(rows)) * NUM_VIEWS
    origin = f"{teacher.architecture}'s logits, {views_each} views of each of {len(rows)} images"
    # The teacher takes minutes and says the same each time.
    identity = f"{teacher.weights_sha256[:16]}-{dataset_digest(source.keys, source.labels)[:16]}-{views_each}"
    kept = cache_folder() / "benchmarks" / f"{identity}-by-view.npy"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        values = _run(teacher, source, rows, views_each)
        np.save(kept.with_suffix(".tmp.npy"), values.numpy())
        kept.with_suffix(".tmp.npy").replace(kept)
    by_view = torch.from_numpy(np.load(kept))
    # Sample s is the photo s % photos; its first 8 views, then the next 8 for the sample after all photos.
    values = by_view.unflatten(0, (-1, NUM_VIEWS)).transpose(0, 1).flatten(1, 2)[:, :NUM_SAMPLES]
    samples = np.resize(rows, NUM_SAMPLES)
    return Logits(values, torch.from_numpy(source.labels[samples]), origin)


def _run(teacher: Teacher, source: Source, rows: np.ndarray, views_each: int) -> torch.Tensor:
    """float32 [views, rows, classes]."""
    size, interpolation = teacher.preprocessing.input_size, teacher.preprocessing.interpolation
    found = []
    for row in tqdm(rows.tolist(), desc="the teacher", unit="image"):
        image = read_image(source, row)
        image_size = image.shape[1], image.shape[2]
        views = [draw_view(source.key(row), view, image_size, source.policy) for view in range(views_each)]
        crops = torch.stack([apply_view(image, view, size, interpolation) for view in views])
        found.append(torch.cat([teacher.logits(batch) for batch in crops.split(16)]))
    return torch.stack(found, dim=1)


def made_up() -> Logits:
    """Spread as a classifier's are: a few near classes stand out of a Gaussian crowd, some samples are sure."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, NUM_CLASSES, NUM_SAMPLES)
    sure = rng.gamma(4.0, 3.0, (1, NUM_SAMPLES, 1)) * rng.uniform(0.7, 1.2, (NUM_VIEWS, NUM_SAMPLES, 1))
    values = rng.normal(0, 1.1, (1, NUM_SAMPLES, NUM_CLASSES)) + rng.normal(
        0, 0.5, (NUM_VIEWS, NUM_SAMPLES, NUM_CLASSES)
    )
    near = rng.integers(0, NUM_CLASSES, (NUM_SAMPLES, 6))
    for rank in range(6):
        values[:, np.arange(NUM_SAMPLES), near[:, rank]] += sure[..., 0] * 0.75**rank * 0.8
    values[:, np.arange(NUM_SAMPLES), labels] += sure[..., 0]
    origin = "made-up logits, not a teacher's: set PHOTOS and WEIGHTS for a teacher's"
    return Logits(torch.from_numpy(values).float(), torch.from_numpy(labels), origin)


def write_large(root: Path, topks: list[TopK], num_shards: int) -> None:
    """A store of num_shards x 1,250 rows and one block of views: the same signals in each shard under other keys."""
    world = World(sizes=(NUM_SAMPLES,) * num_shards, num_classes=1000, k=topks[0].k)
    shards = [Shard(name=f"train-{index:05d}", num_samples=NUM_SAMPLES) for index in range(num_shards)]
    writer = StoreWriter.open(str(root), world.identity, shards, {"made_by": "bench-store, synthetic"})
    labels = topks[0].labels.numpy()
    for index, part in enumerate(writer.missing_parts(len(topks))):
        keys = [f"n{index:05d}_{row:05d}" for row in range(NUM_SAMPLES)]
        writer.write_part(part, keys, labels, topks)
    writer.seal()
