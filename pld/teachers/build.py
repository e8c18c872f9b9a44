"""Build the teacher that `--teacher` names, of any kind, and put it on its device."""

from __future__ import annotations

import dataclasses

from pld.errors import TeacherError, first_line
from pld.precision import Precision
from pld.teachers import own_code, timm_models, torchvision_models, transformers_models
from pld.teachers.names import KINDS, kind_of
from pld.teachers.teacher import Teacher

KINDS.update(torchvision=torchvision_models.load, transformers=transformers_models.load, python=own_code.load)


def build_teacher(
    name: str,
    weights: str | None = None,
    *,
    precision: Precision = "fp32",
    device: str = "cpu",
) -> Teacher:
    """Build a teacher and load its weights.

    Args:
        name: an alias, a timm name with or without tag, `local-dir:FOLDER` (what train_student exports),
            `hf-hub:REPO`, `torchvision:MODEL[.WEIGHTS]`, `transformers:REPO_OR_FOLDER`, `python:MODULE:FUNCTION`, or
            `KIND:MODEL` of a kind that `register_teacher` knows.
        weights: a file (safetensors, or a .pth with tensors and plain values only) in place of published weights, for
            a timm name or `torchvision:`; the size of its classifier gives the number of classes.
        precision: of the forward pass.
        device: where it runs.

    Raises:
        TeacherError: there is no such model or device, or the weights cannot be loaded or are of another model.
        ConfigError: the extra that this kind of teacher needs is not installed, or a plug-in cannot be loaded.
    """
    teacher = _load(name, weights)
    if not teacher.num_classes:
        raise TeacherError(f"{name}: has no classifier, only features; name an image classifier")
    teacher.model.eval()
    for parameter in teacher.model.parameters():  # TorchScript programs have no requires_grad_ of their own
        parameter.requires_grad_(False)
    try:
        teacher.model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise TeacherError(f"{name}: cannot run on the device {device!r}: {first_line(error)}") from error
    return dataclasses.replace(teacher, precision=precision)


def _load(name: str, weights: str | None) -> Teacher:
    """The teacher on the CPU."""
    kind = kind_of(name)
    return KINDS[kind](name, weights) if kind else timm_models.load(name, weights)
