"""Try a model on two images: whether it gives logits of classes, and of how many."""

from __future__ import annotations

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
