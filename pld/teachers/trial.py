"""Try a model on images: whether it gives logits and of how many classes, and whether it takes an image size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pld.errors import TeacherError, first_line
from pld.views.preprocessing import Preprocessing

_WRAP = "return a module whose forward pass gives the logits [B, C] alone"
_SUM_ERROR = 1e-3


def count_outputs(model: nn.Module, preprocessing: Preprocessing, name: str) -> int:
    """C of a model's logits [B, C], found by running it, in evaluation mode, on a dark and a light image.

    Raises:
        TeacherError: the forward pass fails, or gives anything but floating-point logits [B, C]; probabilities, which
            would be taken for logits, are refused as well.
    """
    model.eval()
    images = torch.tensor([32, 192], dtype=torch.uint8)[:, None, None, None].expand(2, 3, *preprocessing.input_size)
    try:
        with torch.no_grad():
            output = model(preprocessing.normalize(images))
    except Exception as error:  # other people's code fails in its own ways
        raise TeacherError(
            f"{name}: its forward pass on float32 images {[2, 3, *preprocessing.input_size]} fails: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(output, Tensor):
        raise TeacherError(f"{name}: its forward pass gives a {type(output).__name__}, no tensor; {_WRAP}")
    if output.ndim != 2 or len(output) != 2 or not output.is_floating_point():
        raise TeacherError(
            f"{name}: its forward pass on 2 images gives {str(output.dtype).removeprefix('torch.')} "
            f"{list(output.shape)}, wanted floating-point logits [2, C]; {_WRAP}"
        )
    output = output.float()
    if output.shape[1] > 1 and bool((output >= 0).all()) and bool(((output.sum(1) - 1).abs() < _SUM_ERROR).all()):
        raise TeacherError(
            f"{name}: its outputs are not negative and sum to 1: probabilities, wanted logits; leave the softmax out, "
            "or return its logarithm"
        )
    return output.shape[1]


@torch.no_grad()
def set_image_size(model: nn.Module, size: tuple[int, int]) -> None:
    """Make a model take images of another size (height, width), by timm's `set_input_size` if it takes one size only.

    timm resamples position embeddings and keeps all other weights. Convolutional models take most sizes as they are.

    Raises:
        TeacherError: the model does not take images of this size.
    """
    error = _try(model, size)
    if error and hasattr(model, "set_input_size"):
        resizable: Any = model
        try:
            resizable.set_input_size(img_size=size)
        except Exception as refused:
            error = refused
        else:
            error = _try(model, size)
    if error:
        raise TeacherError(f"it does not take images of {size[0]} x {size[1]} px: {first_line(error)}")


def _try(model: nn.Module, size: tuple[int, int]) -> Exception | None:
    """The error that the model raises on an image of this size; None if it takes it."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval()
    try:
        model(torch.zeros(1, 3, *size, device=device))
    except Exception as error:  # models refuse in as many ways as there are authors
        return error
    finally:
        model.train(was_training)
    return None
