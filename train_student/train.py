"""Stage two, whole: open, check, train, validate, export."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from pld.config import parse_config
from pld.errors import ConfigError, PLDError
from pld.progress import progress
from pld.signals import TopK
from pld.teachers import build_teacher
from train_student.config import RECIPES, TrainConfig
from train_student.datasets import TrainingData, open_training_data
from train_student.dry_run import dry_run
from train_student.evaluate import evaluate
from train_student.input import Batch, ViewDataset, WorkItem, epoch_items, load
from train_student.run_folder import RunFolder
from train_student.student import (
    build_optimizer,
    build_schedule,
    build_student,
    export,
    share_buffers,
    student_preprocessing,
)
from train_student.teacher_signal import LiveTeacher, NoTeacher, StoredTeacher, TeacherSignal, check_supports

_MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def main(argv: Sequence[str]) -> None:
    """The command."""
    description = (TrainConfig.__doc__ or "").split("\n")[0]
    config = parse_config(TrainConfig, argv, prog="train_student.py", description=description, named_files=RECIPES)
    (dry_run if config.dry_run else train)(config)


def train(config: TrainConfig) -> None:
    """Train a student as configured and leave everything about it in its run folder.

    Raises:
        PLDError: something that the user can mend, found before the first step wherever possible.
    """
    accelerator = Accelerator(mixed_precision=_MIXED_PRECISION[config.precision])
    world = accelerator.num_processes
    data = open_training_data(config)
    steps_per_epoch = _steps_per_epoch(config, len(data.train), world)
    signal = _teacher_signal(config, data, str(accelerator.device))
    loss_function = config.loss_function
    set_seed(config.seed)
    student = build_student(config, data.num_classes)
    raw_optimizer = build_optimizer(config, student)
    schedule = build_schedule(config, raw_optimizer, steps_per_epoch)
    folder = _start_run(config, data, student, signal, world) if accelerator.is_main_process else None
    # Neither the loader nor the schedule is prepared: accelerate would split the one again and step the other twice.
    model, optimizer = accelerator.prepare(student, raw_optimizer)
    preprocessing = student_preprocessing(config)
    dataset = ViewDataset(data.train, data.policy, [preprocessing, *signal.preprocessings])
    batches = load(dataset, _all_items(config, data, accelerator), workers=config.workers)
    start = time.monotonic()
    total = config.epochs * steps_per_epoch * config.batch_size
    with contextlib.closing(batches), progress(total, config.output, show=accelerator.is_main_process) as bar:
        for epoch in range(config.epochs):
            meter = _Meter(accelerator.device)
            for step in range(steps_per_epoch):
                batch = meter.wait_for(batches)
                images = preprocessing.normalize(batch.images[0].to(accelerator.device, non_blocking=True))
                teacher = signal(batch, accelerator.device)
                # A TopK's own labels need no comparison with the batch's, which would wait for the device.
                labels = teacher.labels if isinstance(teacher, TopK) else batch.labels.to(accelerator.device)
                loss = loss_function(model(images), teacher, labels)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step_update(epoch * steps_per_epoch + step + 1)
                meter.losses += loss.detach()
                bar.update(config.batch_size)
            figures = meter.figures(accelerator, steps_per_epoch, config.batch_size)
            if not math.isfinite(figures["loss"]):
                raise PLDError(f"{config.output}: the loss is {figures['loss']} in epoch {epoch + 1}; try a lower --lr")
            share_buffers(student, world)
            if (epoch + 1) % config.eval_every == 0 or epoch + 1 == config.epochs:
                figures |= evaluate(
                    accelerator,
                    student,
                    data.val,
                    preprocessing,
                    batch_size=config.batch_size // world,
                    workers=config.workers,
                )
            if folder:
                seconds = round(time.monotonic() - start, 3)
                folder.log(epoch=epoch + 1, lr=optimizer.param_groups[0]["lr"], seconds=seconds, **figures)
                export(student, preprocessing, data.class_names, folder.path / "model")
                bar.set_postfix({name: f"{figures[name]:.4g}" for name in ("loss", "top1") if name in figures})
    if folder:
        print(f"{config.output}: top-1 {figures['top1']:.2f} %, top-5 {figures['top5']:.2f} %, {seconds:.0f} s")
    accelerator.end_training()


class _Meter:
    """One epoch's mean loss, speed, and the share of time spent waiting for images."""

    def __init__(self, device: torch.device) -> None:
        self.losses = torch.zeros((), device=device)
        self._start = time.monotonic()
        self._waited = 0.0

    def wait_for(self, batches: Iterator[Batch]) -> Batch:
        """The next batch."""
        asked = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - asked
        return batch

    def figures(self, accelerator: Accelerator, steps: int, batch_size: int) -> dict[str, float]:
        """What goes into metrics.jsonl, the loss averaged over all processes; waits for them and the device."""
        loss = float(accelerator.reduce(self.losses, reduction="mean").item()) / steps
        elapsed = time.monotonic() - self._start
        return {
            "loss": loss,
            "images_per_second": round(steps * batch_size / elapsed, 1),
            "wait_share": round(self._waited / elapsed, 4),
        }


def _steps_per_epoch(config: TrainConfig, num_samples: int, world: int) -> int:
    if config.batch_size % world:
        raise ConfigError(f"--batch_size {config.batch_size}: {world} processes do not divide it evenly")
    if num_samples < config.batch_size:
        raise ConfigError(f"--batch_size {config.batch_size}: there are {num_samples} images, less than one batch")
    if config.streams % world:
        raise ConfigError(f"--streams {config.streams}: wanted a multiple of the {world} processes")
    return num_samples // config.batch_size


def _teacher_signal(config: TrainConfig, data: TrainingData, device: str) -> TeacherSignal:
    required = config.loss_function.required_signal
    if not required.needs_teacher:
        return NoTeacher()
    if config.online_teacher:
        assert config.teacher is not None  # TrainConfig checks
        teacher = build_teacher(config.teacher, config.weights, precision=config.precision, device=device)
        if teacher.num_classes != data.num_classes:
            raise ConfigError(f"--teacher {config.teacher}: {teacher.num_classes} classes, wanted {data.num_classes}")
        return LiveTeacher(teacher)
    assert data.store is not None  # likewise
    approximate = check_supports(data.store, required, approximate=config.approximate_teacher)
    return StoredTeacher(data.store, data.train, approximate=approximate)


def _all_items(config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> Iterator[WorkItem]:
    """One stream over all epochs, so that workers never stand idle between two of them."""
    return itertools.chain.from_iterable(
        epoch_items(
            data.train,
            seed=config.seed,
            epoch=epoch,
            view_index=data.view_of_epoch(epoch),
            batch_size=config.batch_size,
            streams=config.streams,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )
        for epoch in range(config.epochs)
    )


def _start_run(
    config: TrainConfig, data: TrainingData, student: nn.Module, signal: TeacherSignal, world: int
) -> RunFolder:
    dropped = len(data.train) % config.batch_size
    facts: dict[str, Any] = {
        "num_train": len(data.train),
        "num_val": len(data.val),
        "num_classes": data.num_classes,
        "num_views": data.num_views,
        "skipped_images": data.num_skipped,
        "dropped_each_epoch": dropped,
        "num_processes": world,
        "student_parameters": sum(p.numel() for p in student.parameters()),
        "approximate_teacher": signal.approximate,
        "store_fingerprint": data.store.manifest.identity.fingerprint if data.store else None,
    }
    folder = RunFolder.create(config, facts)
    notes = [f"{len(data.train):,} images, {data.num_classes} classes, {world} process{'es' if world > 1 else ''}"]
    if data.num_views and data.num_views < config.epochs:
        notes.append(f"{data.num_views} views, repeated every {data.num_views} epochs")
    if signal.approximate:
        notes.append("the teacher is truncated and only approximates what the loss asks for")
    if data.num_skipped:
        notes.append(f"{data.num_skipped} images left out: {Path(str(config.store)).name} could not decode them")
    if dropped:
        notes.append(f"{dropped} images of a last partial batch dropped each epoch")
    print(f"{config.output}: {config.model}, {config.loss}: {'; '.join(notes)}", flush=True)
    return folder
