"""`--pretrained` and `--init_from`: find the weights that a student begins with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import timm
import torch

from pld.errors import ConfigError
from pld.teachers import FOLDER_PREFIXES, Teacher, check_model_name, timm_models
from pld.teachers.checkpoint import fit_tensors, read_checkpoint
from train_student.loop.checkpoint import PATTERN, load
from train_student.model.initial_weights import InitialWeights, classifier_tensors
from train_student.model.student import create_model
from train_student.option_groups import ModelOptions

_WANTED = (
    "wanted a run's folder, its checkpoints or one of them, a model's folder with config.json and model.safetensors, "
    "or a .safetensors or .pth file"
)


def open_initial_weights(options: ModelOptions) -> InitialWeights | None:
    """The weights that the options name; None for fresh ones.

    Raises:
        ConfigError: there is nothing of the kind at this place.
        TeacherError: the weights cannot be loaded.
    """
    if options.pretrained:
        return _published(options.name)
    if options.init_from is None:
        return None
    place = Path(options.init_from.removeprefix("local-dir:")).expanduser()
    if (place / "config.yaml").is_file():
        return _from_folder(_exported(place))
    if (place / "config.json").is_file():
        return _from_folder(place)
    if (place.parent / "config.json").is_file() and place.name == "model.safetensors":
        return _from_folder(place.parent)  # where the classes' names are
    checkpoints = [place] if place.match(PATTERN) else sorted(place.glob(PATTERN))
    if checkpoints:
        return _from_checkpoint(checkpoints[-1])
    if place.is_file() or "#" in place.name:
        return _from_file(options, str(place))
    raise ConfigError(f"--init_from {place}: {'holds none' if place.is_dir() else 'is not there'}; {_WANTED}")


def _published(name: str) -> InitialWeights:
    """timm's, or a folder's; --model knows no aliases, so that the tag is always given."""
    check_model_name(name)
    full_name = name
    if not name.startswith(FOLDER_PREFIXES) and not name.partition(".")[2]:
        config = timm.get_pretrained_cfg(name)
        full_name = f"{name}.{config.tag}" if config and config.tag else name
    return _of(timm_models.load(full_name, None, "--init_from"), full_name)


def _from_folder(folder: Path) -> InitialWeights:
    found = _of(timm_models.load(f"local-dir:{folder}", None), str(folder))
    return dataclasses.replace(found, folder=str(folder))


def _exported(run: Path) -> Path:
    """The model that a run has exported last."""
    if not (run / "model" / "config.json").is_file():
        raise ConfigError(f"--init_from {run}: this run has no model yet; its first one comes with its first epoch")
    return run / "model"


def _from_checkpoint(path: Path) -> InitialWeights:
    """The weights that its run would validate and export: their average where there is one."""
    state = load(path)
    try:
        learner = state["learner"]
        tensors = learner["average"] or learner["student"]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: a checkpoint without a student; {_WANTED}") from error
    return dataclasses.replace(_from_folder(_exported(path.parent.parent)), where=str(path), tensors=tensors)


def _from_file(options: ModelOptions, location: str) -> InitialWeights:
    """The model's tensors in a file, under any prefix; its classifiers' may be missing."""
    checkpoint = read_checkpoint(location, "--init_from")
    with torch.device("meta"):
        model = create_model(options)
    own = model.state_dict()
    fitting = fit_tensors(checkpoint, own, options.name, optional=classifier_tensors(model, own))
    return InitialWeights(where=checkpoint.where, tensors=fitting.tensors, names_inferred=True, note=fitting.note)


def _of(teacher: Teacher, where: str) -> InitialWeights:
    return InitialWeights(
        where=where,
        tensors=teacher.model.state_dict(),
        class_names=teacher.class_names,
        names_inferred=teacher.names_inferred,
        preprocessing=teacher.preprocessing,
    )
