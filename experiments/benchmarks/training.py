"""What `train_student` and the cache do in a benchmark: an untrained teacher, its store, batches, a student's steps."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from accelerate import Accelerator

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from experiments.benchmarks.input.photos import NUM_CLASSES
from pld.classes.matching import Classes
from pld.images import open_source
from pld.join.mixing import choose_partners, plan_mixing
from pld.loading import view_decoder
from pld.views.policy_text import parse_policy
from pld.views.preprocessing import Preprocessing
from train_student.config import TrainConfig
from train_student.data.batches import Batch, epoch_items, load_batches
from train_student.data.teacher_signal import TeacherSignal
from train_student.loop.learner import Learner
from train_student.model.student import build_student, export

BATCH, SIDE = 64, 64


def export_teacher(folder: Path) -> str:
    """A ResNet-18 for small images; untrained, as its time does not depend on its weights."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=NUM_CLASSES)
    export(model, Preprocessing(input_size=(SIDE, SIDE)), None, folder)
    return f"local-dir:{folder}"


def cache_one_view(place: Path, teacher: str, k: int) -> None:
    """Cache one view of the images in `place`/shards into `place`/store."""
    data, store = str(place / "shards"), str(place / "store")
    cache(CacheConfig(allow_wrong_labels=True, teacher=teacher, data=data, store=store, views=1, k=k))


def batches(
    place: Path,
    preprocessings: Sequence[Preprocessing],
    *,
    workers: int,
    new_views: bool = False,
    policy: str = "light",
    views_per_image: int = 1,
) -> Generator[Batch, None, None]:
    """The images in `place`/shards as `train_student` reads them, without end.

    Args:
        place: has the shards.
        preprocessings: of what is wanted of each view.
        workers: loader processes.
        new_views: whether each epoch has new views; else it is view 0 each time.
        policy: as --policy.
        views_per_image: as --views_per_image.
    """
    source = open_source(str(place / "shards"))
    drawn = choose_partners(parse_policy(policy, source.policy), source)
    plan = plan_mixing(source, drawn)
    items = itertools.chain.from_iterable(
        epoch_items(
            source,
            seed=0,
            epoch=epoch,
            view_indexes=range(first := epoch * views_per_image * new_views, first + views_per_image),
            batch_size=BATCH,
            streams=1,
            rank=0,
            world=1,
            plan=plan,
        )
        for epoch in itertools.count()
    )
    decoder = view_decoder(source, drawn, preprocessings)
    with load_batches(source, decoder, items, workers=workers) as loaded:
        yield from loaded


def student_config(place: Path, **settings: Any) -> TrainConfig:
    """A ResNet-18 that learns from the images in `place`/shards and from `place`/store."""
    return TrainConfig.from_flat(
        data=str(place / "shards"),
        store=str(place / "store"),
        model="resnet18",
        num_classes=NUM_CLASSES,
        image_size=SIDE,
        batch_size=BATCH,
        **settings,
    )


def build_learner(config: TrainConfig, signal: TeacherSignal, accelerator: Accelerator) -> Learner:
    """What takes the student's steps."""
    student = build_student(config.model, Classes(names=None, count=NUM_CLASSES, owner="made-up images"))
    return Learner(accelerator, config, signal, student, steps_per_epoch=1000)
