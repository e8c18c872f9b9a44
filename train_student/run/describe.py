"""What a run says of itself: to its folder, to trackers, and to the user before the first step."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from train_student.config import TrainConfig
from train_student.data.teacher_signal import TeacherSignal
from train_student.data.training_data import TrainingData
from train_student.model.student import student_note


def facts(
    config: TrainConfig, data: TrainingData, signal: TeacherSignal, world: int, parameters: int
) -> dict[str, Any]:
    """What run.json holds beside the provenance."""
    return {
        "num_train": len(data.train),
        "num_val": len(data.val) if data.val else 0,
        "validation": data.validation,
        "num_classes": data.num_classes,
        "num_views": data.num_views,
        "skipped_images": data.num_skipped,
        "dropped_each_epoch": len(data.train) % config.batch_size,
        "num_processes": world,
        "student_parameters": parameters,
        "decoder": "nvjpeg" if data.gpu else "cpu",
        "precision": config.autocast,
        "approximate_teacher": signal.approximate,
        "store_fingerprint": data.fingerprint,
    }


def notes(config: TrainConfig, data: TrainingData, signal: TeacherSignal, world: int) -> str:
    """The lines printed before the first step: training, validation, then remarks."""
    told = [f"{len(data.train):,} images, {data.num_classes} classes, {world} process{'es' if world > 1 else ''}"]
    if data.num_views and data.num_views < config.epochs:
        told.append(f"{data.num_views} views, repeated every {data.num_views} epochs")
    if signal.approximate:
        told.append("the teacher is truncated and only approximates what the loss asks for")
    if data.num_skipped:
        lacking = " or ".join(Path(url).name for url in config.stores)
        told.append(f"images left out, as {lacking} has no logits for them: {data.num_skipped}")
    if dropped := len(data.train) % config.batch_size:
        told.append(f"{dropped} images of a last partial batch dropped each epoch")
    lines = [f"{config.model}, {config.loss}: {'; '.join(told)}", f"validation: {data.validation_text}", *data.remarks]
    lines += filter(None, [student_note(config)])
    return "\n".join(f"{config.output}: {line}" for line in lines)


def flat(config: TrainConfig) -> dict[str, Any]:
    """The settings as trackers take them."""
    return {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in dataclasses.asdict(config).items()
    }
