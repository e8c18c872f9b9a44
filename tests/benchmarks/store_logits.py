"""A teacher's logits for 1,250 samples x 8 views: of photos where there are some, else made up, and said so."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import torch

from pld.images import open_source
from pld.teachers import build_teacher
from pld.views import RandomResizedCrop, apply_view, draw_view

NUM_CLASSES, NUM_SAMPLES, NUM_VIEWS = 1000, 1250, 8
ARCHITECTURE = "tf_efficientnet_lite2"


@dataclasses.dataclass(frozen=True)
class Logits:
    """float32 [views, samples, classes], the samples' labels, and where they come from."""

    values: torch.Tensor
    labels: torch.Tensor
    origin: str


def logits() -> Logits:
    """Of $PHOTOS, tar shards, by lite2 with $WEIGHTS, if both are set: 50 views of each of 200 photos, regrouped."""
    photos, weights = os.environ.get("PHOTOS"), os.environ.get("WEIGHTS")
    return of_photos(photos, weights) if photos and weights else made_up()


def of_photos(photos: str, weights: str) -> Logits:
    """One sample stands for one photo in 8 of its random views; a photo with more views is several samples."""
    source, teacher, policy = open_source(photos), build_teacher(ARCHITECTURE, weights), RandomResizedCrop()
    views_each = -(-NUM_SAMPLES * NUM_VIEWS // len(source))
    found = []
    for row in range(len(source)):
        image = source.image(row)
        size = (image.shape[1], image.shape[2])
        crops = [
            apply_view(image, draw_view(source.key(row), view, size, policy), teacher.preprocessing.input_size)
            for view in range(views_each)
        ]
        found.append(
            torch.cat([teacher.logits(torch.stack(crops[first : first + 16])) for first in range(0, views_each, 16)])
        )
    flat = torch.stack(found, dim=1).flatten(0, 1)[: NUM_SAMPLES * NUM_VIEWS]
    labels = torch.from_numpy(source.labels).repeat(views_each)[:NUM_SAMPLES]
    origin = f"{ARCHITECTURE}'s logits, {views_each} random views of each of {len(source)} photos"
    return Logits(flat.reshape(NUM_VIEWS, NUM_SAMPLES, -1), labels, origin)


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
    origin = "made-up logits, not a teacher's: set PHOTOS and WEIGHTS for figures that mean something"
    return Logits(torch.from_numpy(values).float(), torch.from_numpy(labels), origin)
