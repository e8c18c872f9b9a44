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
from pld.views import CutMix, Mixing, MixingPlan, Mixup, RandomResizedCrop, apply_view, draw_view
from pld.views.mix_pixels import mix_pixels
from tests.store.world import World

NUM_CLASSES, NUM_SAMPLES, NUM_VIEWS = 1000, 1250, 8
TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 4.0)
MIXED_POLICY = RandomResizedCrop(steps=(Mixup(alpha=0.8), CutMix(alpha=1.0)), partners="dataset")
ARCHITECTURE = "tf_efficientnet_lite2"


@dataclasses.dataclass(frozen=True)
class Logits:
    """float32 [views, samples, classes], the samples' labels, and where they come from."""

    values: torch.Tensor
    labels: torch.Tensor
    origin: str


def logits(*, mixed: bool = False) -> Logits:
    """Of $PHOTOS by $TEACHER (lite2 if not set) with $WEIGHTS, as pld's commands take them; made up without $PHOTOS.

    Where `mixed`, of the same views after mixup and CutMix. The teacher's own input size, or $SIZE: how sure a teacher
    is depends on it.
    """
    if photos := os.environ.get("PHOTOS"):
        teacher = build_teacher(os.environ.get("TEACHER", ARCHITECTURE), os.environ.get("WEIGHTS"))
        if side := os.environ.get("SIZE"):
            size = dataclasses.replace(teacher.preprocessing, input_size=(int(side), int(side)))
            teacher = dataclasses.replace(teacher, preprocessing=size)
        return of_photos(photos, teacher, mixed=mixed)
    return made_up(mixed=mixed)


def of_photos(photos: str, teacher: Teacher, *, mixed: bool) -> Logits:
    """A sample is a photo in 8 of its random views; a photo has as many samples as it takes to come to 1,250."""
    source, (height, width) = open_source(photos), teacher.preprocessing.input_size
    rows = np.random.default_rng(0).permutation(len(source))[:NUM_SAMPLES]
    views_each = -(-NUM_SAMPLES // len(rows)) * NUM_VIEWS
    views = f"{views_each} views of each of {len(rows)} images, {height} x {width}"
    origin = f"{teacher.architecture}'s logits, {views}"
    # The teacher takes minutes and says the same each time.
    identity = (
        f"{teacher.weights_sha256[:16]}-{dataset_digest(source.keys, source.labels)[:16]}-{views_each}-{height}x{width}"
    )
    kept = cache_folder() / "benchmarks" / f"{identity}{'-mixed' * mixed}-by-view.npy"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        values = _run(teacher, source, rows, views_each, _plan(source.keys[rows]) if mixed else None)
        np.save(kept.with_suffix(".tmp.npy"), values.numpy())
        kept.with_suffix(".tmp.npy").replace(kept)
    by_view = torch.from_numpy(np.load(kept))
    # Sample s is the photo s % photos; its first 8 views, then the next 8 for the sample after all photos.
    values = by_view.unflatten(0, (-1, NUM_VIEWS)).transpose(0, 1).flatten(1, 2)[:, :NUM_SAMPLES]
    samples = np.resize(rows, NUM_SAMPLES)
    return Logits(values, torch.from_numpy(source.labels[samples]), origin)


def _run(teacher: Teacher, source: Source, rows: np.ndarray, views_each: int, plan: MixingPlan | None) -> torch.Tensor:
    """float32 [views, rows, classes]."""
    size, interpolation = teacher.preprocessing.input_size, teacher.preprocessing.interpolation
    images = [(source.key(row), read_image(source, row)) for row in rows.tolist()]
    found = []
    for view in tqdm(range(views_each), desc="the teacher", unit="view"):
        crops = torch.stack(
            [
                apply_view(image, draw_view(key, view, tuple(image.shape[1:]), source.policy), size, interpolation)
                for key, image in images
            ]
        )
        if plan:
            crops = _mix(crops, plan.mixing(view, np.arange(len(rows))))
        found.append(torch.cat([teacher.logits(batch) for batch in crops.split(16)]))
    return torch.stack(found)


def _plan(keys: np.ndarray) -> MixingPlan:
    return MixingPlan(keys, np.zeros(len(keys), np.int64), MIXED_POLICY.steps, seed=MIXED_POLICY.seed)


def _mix(crops: torch.Tensor, mixing: Mixing) -> torch.Tensor:
    own = crops.permute(0, 2, 3, 1).contiguous().numpy()
    mixed = np.empty_like(own)
    for row, partner in enumerate(mixing.partners.tolist()):
        mix_pixels(own[row], own[partner], mixing[row], mixed[row])
    return torch.from_numpy(mixed).permute(0, 3, 1, 2)


def made_up(*, mixed: bool) -> Logits:
    """Spread as a classifier's are: a few near classes stand out of a Gaussian crowd, some samples are sure.

    Those of a mixed image are the mean of two images', weighted by their shares.
    """
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
    if mixed:
        plan = _plan(np.array([f"n{row:05d}".encode() for row in range(NUM_SAMPLES)]))
        for view, own in enumerate(values):
            drawn = plan.mixing(view, np.arange(NUM_SAMPLES))
            share = drawn.shares[:, None]
            values[view] = share * own + (1 - share) * own[drawn.partners]
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
