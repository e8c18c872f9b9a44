"""Change the image size of a model, such as a vision transformer whose position embedding is of one size."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pld.errors import TeacherError


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
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise TeacherError(f"it does not take images of {size[0]} x {size[1]} px: {first}")


def _try(model: nn.Module, size: tuple[int, int]) -> Exception | None:
    """What stops the model on an image of this size."""
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
