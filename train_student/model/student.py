"""The student: a timm model with fresh or given weights, exported as a timm model folder."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from pld.classes.matching import Classes
from pld.errors import ConfigError, TeacherError
from pld.files import temporary_path, writing
from pld.teachers import FOLDER_PREFIXES, check_model_name, model_preprocessing, set_image_size
from pld.views.preprocessing import Preprocessing
from train_student.model.initial_weights import InitialWeights, load_weights
from train_student.option_groups import ModelOptions

# Arguments of timm.create_model with which a model does not begin with fresh weights.
_LOADING = ("pretrained", "checkpoint_path")
# The recipe's input, whatever the architecture's published weights were trained with.
RECIPE_INPUT = Preprocessing(input_size=(224, 224), crop_fraction=224 / 236)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Student:
    """A student before its first step.

    Attributes:
        model: in training mode, but for statistics that are frozen.
        preprocessing: of its images, in training, validation and export alike.
        note: what the user should know of its weights, if anything.
    """

    model: nn.Module
    preprocessing: Preprocessing
    note: str | None = None


def student_preprocessing(
    image_size: int | None, crop_fraction: float | None, wanted: Preprocessing = RECIPE_INPUT
) -> Preprocessing:
    """What the options say, else what the weights want; without weights it is the recipe's input."""
    return dataclasses.replace(
        wanted,
        input_size=(image_size, image_size) if image_size else wanted.input_size,
        crop_fraction=crop_fraction or wanted.crop_fraction,
    )


def build_student(
    options: ModelOptions,
    classes: Classes,
    *,
    crop_fraction: float | None = None,
    weights: InitialWeights | None = None,
    begun: Preprocessing | None = None,
) -> Student:
    """A timm model with fresh weights, see `student_note`, or with those of a model that was trained before.

    Args:
        options: which model.
        classes: the data's.
        crop_fraction: of validation's centre crop; None for the weights', else the recipe's.
        weights: to begin with; None for fresh ones, also where a checkpoint's follow.
        begun: the preprocessing of a run that is gone on with, in place of the options'.

    Raises:
        TeacherError: nobody knows the model's name.
        ConfigError: its arguments are not timm's, it does not take images of this size, or the weights are another
            model's.
    """
    model = create_model(options, num_classes=classes.count)
    note = None if options.has_weights else student_note(options)
    if weights is None:
        preprocessing = begun or student_preprocessing(options.image_size, crop_fraction)
    else:
        wanted = weights.preprocessing or model_preprocessing(model)
        if weights.preprocessing:  # position embeddings are loaded at their own size; a file's is what --model builds
            _resize(options, model, wanted, "give the --model_kwargs of these weights, such as img_size")
        note = "; ".join(filter(None, (weights.note, load_weights(model, weights, classes)))) or None
        preprocessing = student_preprocessing(options.image_size, crop_fraction, wanted)
    fresh = "give another --image_size, or build the model for this one: --model_kwargs '{\"img_size\": 256}'"
    _resize(options, model, preprocessing, "give another --image_size or none" if weights else fresh)
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    if options.freeze_bn:
        _freeze_statistics(options, model)
    if options.compile:
        model.compile()
    return Student(model=model, preprocessing=preprocessing, note=note)


def create_model(options: ModelOptions, **more: Any) -> Any:
    """The model that the options name, with fresh weights; raises TeacherError and ConfigError as `build_student`."""
    check_model_name(options.name)
    try:
        return timm.create_model(options.name, **more, **options.model_kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--model_kwargs {options.model_kwargs}: {options.name}: {error}") from error


def _resize(options: ModelOptions, model: nn.Module, preprocessing: Preprocessing, advice: str) -> None:
    try:
        set_image_size(model, preprocessing.input_size)
    except TeacherError as error:
        raise ConfigError(f"{options.name}: {error}; {advice}") from error


def _freeze_statistics(options: ModelOptions, model: nn.Module) -> None:
    """Batch norm normalises as in evaluation; its scale and shift are still trained."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        raise ConfigError(f"--freeze_bn: {options.name} has no batch norm; leave the option out")
    for layer in layers:
        layer.eval()


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
    return (
        f"{options.name}: its architecture, with fresh weights; the weights in {weights} are not loaded: add "
        "--pretrained to load them"
    )


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
    with writing(folder), temporary_path(folder) as staging:
        folder.mkdir(exist_ok=True)
        timm.models.save_for_hf(plain, str(staging), described, safe_serialization=True, data_config=data)
        for name in ("model.safetensors", "config.json"):
            (staging / name).replace(folder / name)
