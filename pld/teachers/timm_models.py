"""Teachers of timm: published weights, a file of weights, or a folder that train_student exported."""

from __future__ import annotations

from typing import Any, get_args

import timm
from timm.data.config import resolve_model_data_config
from torch import nn

from pld.classes.names import infer_names, parse_label_names
from pld.errors import TeacherError, first_line
from pld.teachers.names import ALIASES, FOLDER_PREFIXES, TRANSFORMERS, check_model_name, stated_identity
from pld.teachers.teacher import Teacher
from pld.teachers.weights import load_from_file, weights_digest
from pld.views import Interpolation
from pld.views.preprocessing import Preprocessing


def load(name: str, weights: str | None, weights_option: str = "--weights") -> Teacher:
    """The teacher; see `build_teacher`. `weights_option` names a file of weights, for messages."""
    full_name = ALIASES.get(name, name)
    check_model_name(full_name, alias=name)
    model: Any
    model, note = _load_file(full_name, weights) if weights else (_load_published(full_name, weights_option), None)
    stated_tag = (stated_identity(full_name) or ("", ""))[1]
    tag = stated_tag if weights else model.pretrained_cfg.get("tag") or ""
    stated = parse_label_names(model.pretrained_cfg.get("label_names"), model.num_classes, full_name)
    published = not weights and not full_name.startswith(FOLDER_PREFIXES)
    return Teacher(
        model=model,
        preprocessing=model_preprocessing(model),
        architecture=model.pretrained_cfg["architecture"],
        tag=tag,
        weights_sha256=weights_digest(model),
        num_classes=model.num_classes,
        class_names=stated or infer_names(model.num_classes),
        names_inferred=stated is None and not published,
        notes=(note,) if note else (),
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


def _load_published(name: str, weights_option: str) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # hubs fail in as many ways as there are network libraries
        if name.startswith("hf-hub:") and isinstance(error, KeyError):  # config.json was found, but not what timm wants
            raise TeacherError(
                f"{name}: its config.json is not timm's (no {error}); a classifier of transformers is "
                f"{TRANSFORMERS}{name.removeprefix('hf-hub:')}"
            ) from error
        if name.startswith("local-dir:"):
            raise TeacherError(
                f"{name}: its weights could not be loaded: {first_line(error)}\n"
                "Wanted config.json and model.safetensors of one model, as train_student writes them; copy the folder "
                "again"
            ) from error
        raise TeacherError(
            f"{name}: its weights could not be loaded: {first_line(error)}\n"
            "Without a network, download them elsewhere (https://huggingface.co/timm) and name them: "
            f"{weights_option} FILE"
        ) from error
    return model


def _load_file(name: str, weights: str) -> tuple[Any, str | None]:
    """The model with a file's weights, and a note on what was chosen from it."""
    model, _, note = load_from_file(lambda number: timm.create_model(name, num_classes=number), weights, name)
    return model, note
