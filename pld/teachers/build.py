"""Build a teacher: published weights, a file of weights, or a folder that train_student exported."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from pld.classes.names import infer_names, parse_label_names
from pld.errors import TeacherError
from pld.precision import Precision
from pld.teachers.names import ALIASES, FOLDER_PREFIXES, check_model_name
from pld.teachers.teacher import Teacher
from pld.views import Interpolation
from pld.views.preprocessing import Preprocessing


def build_teacher(
    name: str,
    weights: str | None = None,
    *,
    precision: Precision = "fp32",
    device: str = "cpu",
    weights_option: str = "--weights",
) -> Teacher:
    """Build a teacher and load its weights.

    Args:
        name: an alias, a timm name with or without tag, `local-dir:FOLDER` (what train_student exports) or
            `hf-hub:REPO`.
        weights: a file (safetensors, or a .pth with tensors only) in place of published weights; the size of its
            classifier gives the number of classes.
        precision: of the forward pass.
        device: where it runs.
        weights_option: the option that names a file of weights, for messages.

    Raises:
        TeacherError: there is no such model or device, or the weights cannot be loaded or are of another model.
    """
    full_name = ALIASES.get(name, name)
    check_model_name(full_name, alias=name)
    model: Any = _load_file(full_name, Path(weights)) if weights else _load_published(full_name, weights_option)
    model.eval().requires_grad_(False)
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise TeacherError(f"{full_name}: cannot run on the device {device!r}: {str(error).splitlines()[0]}") from error
    tag = full_name.partition(".")[2] if weights else model.pretrained_cfg.get("tag") or ""
    stated = parse_label_names(model.pretrained_cfg.get("label_names"), model.num_classes, full_name)
    published = not weights and not full_name.startswith(FOLDER_PREFIXES)
    return Teacher(
        model=model,
        preprocessing=model_preprocessing(model),
        architecture=model.pretrained_cfg["architecture"],
        tag=tag,
        weights_sha256=weights_digest(model),
        num_classes=model.num_classes,
        precision=precision,
        class_names=stated or infer_names(model.num_classes),
        names_inferred=stated is None and not published,
    )


def model_preprocessing(model: Any) -> Preprocessing:
    """The preprocessing in a timm model's configuration; raises TeacherError for an unsupported interpolation."""
    config = resolve_model_data_config(model)
    if config["interpolation"] not in get_args(Interpolation):
        raise TeacherError(
            f"{model.pretrained_cfg['architecture']}: wants {config['interpolation']} resizing; supported are "
            f"{', '.join(get_args(Interpolation))}"
        )
    return Preprocessing(
        input_size=tuple(config["input_size"][1:]),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_fraction=config["crop_pct"],
    )


def weights_digest(model: nn.Module) -> str:
    """sha256 over the names, types, shapes and bytes of a model's tensors, sorted by name."""
    return tensors_digest(model.state_dict())


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """The same of tensors by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load_published(name: str, weights_option: str) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # hubs fail in as many ways as there are network libraries
        elsewhere = "Without a network, download them elsewhere (https://huggingface.co/timm) and name them: "
        is_folder = name.startswith("local-dir:")
        advice = "Wanted a folder as train_student exports it" if is_folder else f"{elsewhere}{weights_option} FILE"
        raise TeacherError(f"{name}: its weights could not be loaded: {_first_lines(error)}\n{advice}") from error
    return model


def read_weights(path: Path, option: str = "--weights") -> dict[str, Tensor]:
    """The tensors in a .safetensors or .pth file, by name; `option` named it.

    Raises:
        TeacherError: there is no such file, it is damaged, or it holds other things than tensors.
    """
    if not path.is_file():
        raise TeacherError(f"{path}: no such file; {option} wants a .safetensors or .pth file")
    try:
        tensors: dict[str, Tensor] = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged or hostile file fails in its parser's own way
        raise TeacherError(f"{path}: damaged, or not only weights: {_first_lines(error)}") from error
    if others := [name for name, value in tensors.items() if not isinstance(value, Tensor)]:
        raise TeacherError(f"{path}: not only weights: {others[0]!r} is no tensor")
    return tensors


def _load_file(name: str, path: Path) -> nn.Module:
    tensors = read_weights(path)
    config = timm.get_pretrained_cfg(name)
    classifier = tensors.get(f"{config.classifier if config else 'fc'}.weight")
    num_classes = None if classifier is None else len(classifier)
    model: nn.Module = timm.create_model(name, num_classes=num_classes)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise TeacherError(f"{path}: weights of another model than {name}: {_first_lines(error, 4)}") from error
    return model


def _first_lines(error: Exception, num: int = 1) -> str:
    return "\n".join(str(error).strip().splitlines()[:num])[:500] or type(error).__name__
