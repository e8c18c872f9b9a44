"""A model's weights: build it for those of a file, and their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pld.errors import TeacherError
from pld.teachers.checkpoint import Fitting, Tensors, fit_tensors, read_checkpoint

# A number of classes that no layer has by chance: tensors with so many rows are the classifiers'.
_PROBE_CLASSES = 1009
_MAX_SHOWN = 3
# Of lists in lists, in which tensors and modules are looked for.
_MAX_DEPTH = 4


def weights_digest(model: nn.Module) -> str:
    """sha256 over the names, types, shapes and bytes of a model's tensors, sorted by name."""
    return tensors_digest(model.state_dict())


def tensors_digest(tensors: Tensors) -> str:
    """The same of tensors by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def all_tensors(model: nn.Module) -> Tensors:
    """A model's tensors by name, with those that its state_dict lacks: buffers that are not saved, and attributes."""
    registered = {**dict(model.named_parameters()), **dict(model.named_buffers()), **model.state_dict()}
    return {**{place: value for place, value in unregistered(model) if isinstance(value, Tensor)}, **registered}


def unregistered(model: nn.Module) -> Iterator[tuple[str, Tensor | nn.Module]]:
    """What modules hold in plain attributes, lists and dicts, and PyTorch neither saves nor moves; with its place."""
    known = {id(held) for held in (*model.modules(), *model.parameters(), *model.buffers())}
    for path, module in model.named_modules():
        for place, value in _leaves(vars(module), path):
            if isinstance(value, Tensor | nn.Module) and id(value) not in known:
                yield place, value


def _leaves(value: Any, place: str, depth: int = _MAX_DEPTH) -> Iterator[tuple[str, Any]]:
    """The values in lists, tuples and dicts, with their places."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None or not depth:
        yield place, value
    else:
        for key, item in items:
            yield from _leaves(item, f"{place}.{key}" if place else str(key), depth - 1)


def load_from_file(build: Callable[[int], Any], location: str, model_name: str) -> tuple[Any, int, str | None]:
    """Build a model with the classes and the weights of a file.

    Args:
        build: makes a model with a number of classes.
        location: the file, see `read_checkpoint`.
        model_name: for messages.

    Returns:
        The model, its number of classes, and a note on what was chosen from the file.

    Raises:
        TeacherError: the file cannot be read, or its tensors are not this model's.
    """
    checkpoint = read_checkpoint(location)
    wanted = empty_tensors(lambda: build(_PROBE_CLASSES))
    fitting = fit_tensors(checkpoint, wanted, model_name)
    num_classes = _count_classes(checkpoint.where, fitting, wanted, model_name)
    model = build(num_classes)
    try:
        model.load_state_dict(fitting.tensors)
    except RuntimeError as error:
        lines = "\n".join(str(error).strip().splitlines()[:4])[:500]
        raise TeacherError(f"{checkpoint.where}: weights of another model than {model_name}: {lines}") from error
    return model, num_classes, fitting.note


def empty_tensors(build: Callable[[], Any]) -> Tensors:
    """A model's tensors by name, without values where it can be built so."""
    try:
        with torch.device("meta"):
            tensors: Tensors = build().state_dict()
    except NotImplementedError:  # it computes its own shape with tensors
        tensors = build().state_dict()
    return tensors


def _count_classes(where: str, fitting: Fitting, wanted: Tensors, model_name: str) -> int:
    """The number of classes: the rows of the classifier, or of each of several."""
    heads = [name for name, tensor in wanted.items() if tensor.ndim and len(tensor) == _PROBE_CLASSES]
    if not heads:
        raise TeacherError(f"{model_name}: has no classifier, only features; name an image classifier")
    counts = {
        name: len(tensor)
        for name in heads
        if (tensor := fitting.tensors[name]).shape[1:] == wanted[name].shape[1:] and tensor.ndim
    }
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{name} has {count}" for name, count in list(counts.items())[:_MAX_SHOWN]) or "none"
        raise TeacherError(
            f"{where}: weights of another model than {model_name}: its classifiers' numbers of classes: {found}; "
            "wanted one number"
        )
    return next(iter(counts.values()))
