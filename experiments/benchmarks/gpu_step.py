"""What `bench_gpu` checks of a training step on the GPU."""

import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from accelerate import Accelerator

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from experiments.benchmarks.photos import NUM_CLASSES, write_copies
from pld.images import open_source
from pld.store import open_store
from pld.views.preprocessing import Preprocessing
from train_student.config import TrainConfig
from train_student.data.batches import Batch, ViewDataset, epoch_items
from train_student.data.loading import load
from train_student.data.teacher_signal import StoredTeacher
from train_student.loop.learner import Learner
from train_student.model.student import build_student, export, student_preprocessing


def step_without_waiting() -> None:
    """Steps from a store, in bf16, in which the host never waits for the GPU: it would be idle before each step."""
    with tempfile.TemporaryDirectory() as folder:
        batches, trainer = made_trainer(Path(folder))
        for number, batch in enumerate(batches):
            # The first steps allocate.
            torch.cuda.set_sync_debug_mode("error" if number > 2 else "default")
            try:
                trainer.step([batch], number)
            finally:
                torch.cuda.set_sync_debug_mode("default")


def made_trainer(folder: Path) -> tuple[list[Batch], Learner]:
    """Six pinned batches of generated images, and a small ResNet that learns from a store of their logits."""
    write_copies(None, folder, 64, (64, 64))
    data, store = str(folder / "shards"), str(folder / "store")
    export(
        timm.create_model("resnet18", num_classes=NUM_CLASSES),
        Preprocessing(input_size=(64, 64)),
        None,
        folder / "teacher",
    )
    cache(
        CacheConfig(
            allow_wrong_labels=True, teacher=f"local-dir:{folder / 'teacher'}", data=data, store=store, views=1, k=10
        )
    )
    settings: dict[str, Any] = {"data": data, "store": store, "image_size": 64, "batch_size": 64, "precision": "bf16"}
    config = TrainConfig.from_flat(model="resnet18", num_classes=NUM_CLASSES, opt="adamw", **settings)
    source, preprocessing = open_source(data), student_preprocessing(64, config.validation.crop_fraction)
    items = [
        item
        for epoch in range(6)
        for item in epoch_items(source, seed=0, epoch=epoch, view_index=0, batch_size=64, streams=1, rank=0, world=1)
    ]
    batches = list(load(ViewDataset(source, source.policy, [preprocessing]), items, workers=0))
    signal = StoredTeacher(open_store(store), source)
    student = build_student(config.model, NUM_CLASSES)
    accelerator, loss = Accelerator(mixed_precision="bf16"), config.loss.build()
    learner = Learner(accelerator, student, loss, signal, preprocessing, config.optimizer, steps_per_epoch=100, seed=0)
    return batches, learner
