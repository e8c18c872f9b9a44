"""What a run records in its folder, and what it prints before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pld.views import policy_to_json
from train_student.config import TrainConfig
from train_student.data.training_data import TrainingData
from train_student.loop.learner import Learner
from train_student.run.run_folder import settings


def describe_run(config: TrainConfig, data: TrainingData, learner: Learner, world: int) -> dict[str, Any]:
    """What run.json holds beside the provenance."""
    return {
        "num_train": len(data.train),
        "num_val": len(data.val) if data.val else 0,
        "validation": data.validation,
        "num_classes": data.num_classes,
        "labelled": data.train.labels is not None,
        "num_views": data.num_views,
        "policy": policy_to_json(data.policy),
        "skipped_images": data.num_skipped,
        "dropped_each_epoch": _dropped(config, data),
        "num_processes": world,
        "student_parameters": sum(p.numel() for p in learner.student.parameters()),
        "decoder": "nvjpeg" if data.gpu else "cpu",
        "precision": config.run.resolved_precision,
        "approximate_teacher": learner.signal.approximate,
        "store_fingerprint": data.fingerprint,
        "settings": settings(config),
    }


def _dropped(config: TrainConfig, data: TrainingData) -> int:
    """Images of an epoch's last partial batch."""
    return len(data.train) % (config.optimizer.batch_size // data.views_per_image)


def first_lines(config: TrainConfig, data: TrainingData, approximate: bool, world: int) -> list[str]:
    """What is printed before the first step: training, validation, then remarks."""
    facts = [f"{len(data.train):,} images, {data.num_classes} classes, {world} process{'es' if world > 1 else ''}"]
    each, epochs = data.views_per_image, config.optimizer.epochs
    if each > 1:
        facts.append(f"{each} views of an image in a batch")
    if data.num_views and data.num_views < epochs * each:
        facts.append(f"{data.num_views} views, repeated every {data.num_views / each:g} epochs")
    if steps := [step.name for step in data.policy.steps]:
        facts.append(f"views with {', '.join(steps)}")
    if data.train.labels is None:
        facts.append("no labels: the teacher's ranking is the only signal")
    if approximate:
        facts.append("the teacher is truncated and only approximates what the loss asks for")
    if sampled := _sampled_tail(config, data):
        facts.append(sampled)
    if data.num_skipped:
        lacking = " or ".join(Path(url).name for url in config.teacher.stores)
        facts.append(f"images left out, as {lacking} has no logits for them: {data.num_skipped}")
    if dropped := _dropped(config, data):
        facts.append(f"{dropped} images of a last partial batch dropped each epoch")
    training = f"{config.model.name}, {config.loss.name}: {'; '.join(facts)}"
    return [training, f"validation: {data.validation_text}", *data.remarks]


def _sampled_tail(config: TrainConfig, data: TrainingData) -> str | None:
    """That the loss estimates the teacher's tail from a sample of it, and how far a view's gradient is off."""
    required, store = config.loss.build().required_signal, data.store
    if store is None or config.teacher.online_teacher or not (required.sampled_tail and store.tail_samples):
        return None
    return (
        f"the teacher's tail is estimated from {store.tail_samples} of its classes, without bias; of one view KD's "
        f"gradient is off by {store.tail_error(required.temperatures[0]):.3g} of its length at first"
    )
