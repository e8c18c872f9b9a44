"""The student: a timm model with fresh weights, exported as a timm model folder."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from pld.errors import ConfigError
from pld.files import writing
from pld.teachers import FOLDER_PREFIXES, check_model_name
from pld.views.preprocessing import Preprocessing
from train_student.config import ModelOptions

# Arguments of timm.create_model with which a model does not begin with fresh weights.
_LOADING = ("pretrained", "checkpoint_path")


def student_preprocessing(image_size: int, crop_fraction: float) -> Preprocessing:
    """The recipe's input, whatever the architecture's published weights were trained with."""
    return Preprocessing(input_size=(image_size, image_size), crop_fraction=crop_fraction)


def build_student(options: ModelOptions, num_classes: int) -> nn.Module:
    """A timm model with fresh weights, see `student_note`.

    Raises:
        TeacherError: nobody knows the model's name.
        ConfigError: its arguments are not timm's.
    """
    check_model_name(options.name)
    try:
        model: nn.Module = timm.create_model(options.name, num_classes=num_classes, **options.model_kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--model_kwargs {options.model_kwargs}: {options.name}: {error}") from error
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    if options.compile:
        model.compile()
    return model


def student_note(options: ModelOptions) -> str | None:
    """A note if `--model` also names weights, which are not loaded; else None.

    That is a model's folder (local-dir:FOLDER), a hub's (hf-hub:REPO) or a timm name with the tag of published weights.
    """
    if any(options.model_kwargs.get(name) for name in _LOADING):
        return None
    prefix = next(filter(options.name.startswith, FOLDER_PREFIXES), None)
    weights = options.name.removeprefix(prefix) if prefix else options.name.partition(".")[2]
    if not weights:
        return None
    return f"{options.name}: its architecture, with fresh weights; the weights in {weights} are not loaded"


def share_buffers(model: nn.Module, world: int) -> None:
    """Broadcast the first process's buffers, such as batch norm statistics, so that all validate one model."""
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
