"""The student: its model, its optimizer and schedule, and its export as a timm model folder."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import nn

from pld.errors import ConfigError
from pld.files import writing
from pld.teachers import FOLDER_PREFIXES, check_model_name
from pld.views.preprocessing import Preprocessing
from train_student.config import TrainConfig

# Arguments of timm.create_model with which a model does not begin with fresh weights.
_LOADING = ("pretrained", "checkpoint_path")


def student_preprocessing(config: TrainConfig) -> Preprocessing:
    """The recipe's input, whatever the architecture's published weights were trained with."""
    return Preprocessing(input_size=(config.image_size, config.image_size), crop_fraction=config.crop_fraction)


def build_student(config: TrainConfig, num_classes: int) -> nn.Module:
    """A timm model with fresh weights, see `student_note`.

    Raises:
        TeacherError: nobody knows the model's name.
        ConfigError: its arguments are not timm's.
    """
    check_model_name(config.model)
    try:
        model: nn.Module = timm.create_model(config.model, num_classes=num_classes, **config.model_kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--model_kwargs {config.model_kwargs}: {config.model}: {error}") from error
    return model.to(memory_format=torch.channels_last) if config.channels_last else model


def student_note(config: TrainConfig) -> str | None:
    """What to say where `--model` names weights too and none are loaded; None where there is nothing to say.

    That is a model's folder (local-dir:FOLDER), a hub's (hf-hub:REPO) or a timm name with the tag of published weights.
    """
    if any(config.model_kwargs.get(name) for name in _LOADING):
        return None
    prefix = next(filter(config.model.startswith, FOLDER_PREFIXES), None)
    weights = config.model.removeprefix(prefix) if prefix else config.model.partition(".")[2]
    if not weights:
        return None
    return f"{config.model}: its architecture, with fresh weights; the weights in {weights} are not loaded"


def build_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """timm's optimizer; biases and norms are not decayed."""
    known = [str(name) for name in list_optimizers()]
    if config.opt not in known:
        raise ConfigError(f"--opt {config.opt}: unknown to timm; it has {', '.join(known)}")
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            model, opt=config.opt, lr=config.lr, weight_decay=config.weight_decay, **config.opt_kwargs
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--opt_kwargs {config.opt_kwargs}: {config.opt}: {error}") from error
    return optimizer


def build_schedule(config: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Any:
    """timm's schedule, stepped by update: `schedule.step_update(updates_done)`."""
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched=config.sched,
        num_epochs=config.epochs,
        warmup_epochs=min(config.warmup_epochs, config.epochs - 1),
        min_lr=config.min_lr,
        step_on_epochs=False,
        updates_per_epoch=steps_per_epoch,
    )
    return schedule


def share_buffers(model: nn.Module, world: int) -> None:
    """Give every process the first one's buffers: batch norm's statistics differ, and one model is to be validated."""
    if world > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)


def export(model: Any, preprocessing: Preprocessing, class_names: tuple[str, ...] | None, folder: Path) -> None:
    """Write `folder` as timm reads it (`local-dir:FOLDER`): config.json and model.safetensors, each replaced whole."""
    data = {
        "input_size": (3, *preprocessing.input_size),
        "interpolation": preprocessing.interpolation,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "crop_pct": preprocessing.crop_fraction,
    }
    described: dict[str, Any] = {"pretrained_cfg": {"tag": "", "license": None, "origin_url": None, "paper_ids": None}}
    if class_names:
        described["label_names"] = list(class_names)
    # safetensors writes no strided tensors, and what is on disk should not depend on a run's memory format.
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    with writing(folder), tempfile.TemporaryDirectory(dir=folder.parent) as staging:
        folder.mkdir(exist_ok=True)
        timm.models.save_for_hf(plain, staging, described, safe_serialization=True, data_config=data)
        for name in ("model.safetensors", "config.json"):
            (Path(staging) / name).replace(folder / name)
