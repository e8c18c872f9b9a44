"""Teachers of torchvision: `torchvision:MODEL[.WEIGHTS]`, with published weights or a file of weights."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, get_args

import torch
import torchvision.models
from torchvision.models import detection, optical_flow, quantization, segmentation, video

from pld.classes.imagenet import recognise_imagenet
from pld.classes.names import infer_names
from pld.errors import TeacherError, first_line
from pld.teachers.names import TORCHVISION
from pld.teachers.teacher import Teacher
from pld.teachers.weights import load_from_file, weights_digest
from pld.views import Interpolation
from pld.views.preprocessing import Preprocessing

_OTHERS = {
    "object detection": detection,
    "segmentation": segmentation,
    "video": video,
    "optical flow": optical_flow,
    "quantized inference on CPUs": quantization,
}


def load(name: str, weights: str | None) -> Teacher:
    """The teacher; see `build_teacher`."""
    architecture, _, tag = name.removeprefix(TORCHVISION).partition(".")
    _check_name(architecture)
    published = _find_weights(architecture, tag)
    if weights:
        model, num_classes, note = load_from_file(lambda number: _build(published, architecture, number), weights, name)
    else:
        model, num_classes, note = _load_published(architecture, published), len(published.meta["categories"]), None
    stated = None if weights else recognise_imagenet(published.meta["categories"])
    return Teacher(
        model=model,
        preprocessing=_preprocessing(name, published),
        architecture=f"{TORCHVISION}{architecture}",
        tag=tag if weights else published.name,
        weights_sha256=weights_digest(model),
        num_classes=num_classes,
        class_names=stated or infer_names(num_classes),
        names_inferred=stated is None,
        notes=(note,) if note else (),
    )


def _check_name(architecture: str) -> None:
    """Raise TeacherError, with the nearest names, unless this is one of torchvision's image classifiers."""
    classifiers = torchvision.models.list_models(module=torchvision.models)
    if architecture in classifiers:
        return
    for purpose, module in _OTHERS.items():
        if architecture in torchvision.models.list_models(module=module):
            raise TeacherError(
                f"{TORCHVISION}{architecture}: a model for {purpose}; a teacher is an image classifier, such as "
                f"{TORCHVISION}resnet50"
            )
    near = difflib.get_close_matches(architecture, classifiers, n=5, cutoff=0.5)
    raise TeacherError(f"{TORCHVISION}{architecture}: torchvision has no such model; nearest are {_list(near)}")


def _find_weights(architecture: str, tag: str) -> Any:
    """The published weights of a name: torchvision's best ones without a tag. Raises TeacherError for another tag."""
    known = torchvision.models.get_model_weights(architecture)
    usable = [weights.name for weights in known if weights.meta.get("categories")]
    if tag and tag not in usable:
        raise TeacherError(f"{TORCHVISION}{architecture}: has no weights of classes {tag!r}; it has {_list(usable)}")
    return known[tag] if tag else known.DEFAULT


def _build(published: Any, architecture: str, num_classes: int) -> Any:
    """The model as with published weights, without them."""
    settings: dict[str, Any] = {}
    if architecture in (
        "googlenet",
        "inception_v3",
    ):  # these two change the normalisation of their input, and draw no weights first
        settings = {"init_weights": False, "transform_input": True}
    if architecture.startswith("vit_"):  # their position embedding is for one size of image
        settings = {"image_size": published.meta["min_size"][0]}
    return torchvision.models.get_model(architecture, weights=None, num_classes=num_classes, **settings)


def _load_published(architecture: str, weights: Any) -> Any:
    try:
        return torchvision.models.get_model(architecture, weights=weights)
    except Exception as error:  # networks fail in many ways
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise TeacherError(
            f"{TORCHVISION}{architecture}: its weights could not be loaded: {first_line(error)}\n"
            f"Without a network, download {weights.url} elsewhere and put it into {folder}"
        ) from error


def _preprocessing(name: str, weights: Any) -> Preprocessing:
    """The weights' own transforms: the shorter side to `resize_size`, and `crop_size` in the centre."""
    transforms = weights.transforms()
    if transforms.interpolation.value not in get_args(Interpolation):
        raise TeacherError(
            f"{name}: wants {transforms.interpolation.value} resizing; supported are "
            f"{', '.join(get_args(Interpolation))}"
        )
    (crop,), (resized,) = transforms.crop_size, transforms.resize_size
    return Preprocessing(
        input_size=(crop, crop),
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        crop_fraction=crop / resized,
    )


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"
