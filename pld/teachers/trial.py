"""Try a model on images: whether it gives logits, the same ones each time, and whether it takes an image size."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pld.errors import TeacherError, first_line
from pld.views.preprocessing import Preprocessing

_WRAP = "return a module whose forward pass gives the logits [B, C] alone"
_SUM_ERROR = 1e-3
# Of the largest logit: what rounding may change from run to run, and between batches of one and of two.
_REPEAT_ERROR, _BATCH_ERROR = 1e-5, 1e-3


def check_model(model: nn.Module, preprocessing: Preprocessing, name: str) -> Float[Tensor, "2 C"]:
    """A model's logits for a dark and a light image, found by running it in evaluation mode.

    Raises:
        TeacherError: see `trial_logits`; or the logits change when it runs again, or depend on the batch's other image.
    """
    logits = trial_logits(model, preprocessing, name)
    if differ(trial_logits(model, preprocessing, name), logits):
        raise TeacherError(
            f"{name}: gives other logits when it runs on the same images again: something in it is random in "
            "evaluation mode, such as F.dropout without training=self.training"
        )
    images = _images(preprocessing)
    if any(differ(_run(model, images[i : i + 1], name), logits[i : i + 1], _BATCH_ERROR) for i in range(2)):
        raise TeacherError(
            f"{name}: gives an image other logits alone than beside another image: something in it mixes the images of "
            "a batch, such as a batch norm that stays in training mode"
        )
    return logits


def trial_logits(model: nn.Module, preprocessing: Preprocessing, name: str) -> Float[Tensor, "2 C"]:
    """The same of one run.

    Raises:
        TeacherError: the forward pass fails, or gives anything but floating-point logits [B, C]; probabilities, which
            would be taken for logits, are refused as well.
    """
    model.eval()
    output = _run(model, _images(preprocessing), name)
    sums = output.float().sum(1)
    if output.shape[1] > 1 and bool((output >= 0).all()) and bool(((sums - 1).abs() < _SUM_ERROR).all()):
        raise TeacherError(
            f"{name}: its outputs are not negative and sum to 1: probabilities, wanted logits; leave the softmax out, "
            "or return its logarithm"
        )
    return output


def differ(found: Float[Tensor, "B M"], wanted: Float[Tensor, "B C"], error: float = _REPEAT_ERROR) -> bool:
    """Whether two trials' logits differ by more than rounding, as a share of the largest logit."""
    if found.shape != wanted.shape:
        return True
    allowed = max(error, 4 * torch.finfo(wanted.dtype).eps) * wanted.float().abs().max()
    return bool((found.float() - wanted.float()).abs().max() > allowed)


def _images(preprocessing: Preprocessing) -> Float[Tensor, "2 3 h w"]:
    """A dark and a light image, normalised; with noise, for layers that see differences alone."""
    noise = torch.randint(0, 64, (2, 3, *preprocessing.input_size), generator=torch.Generator().manual_seed(0))
    return preprocessing.normalize((noise + torch.tensor([0, 192])[:, None, None, None]).to(torch.uint8))


def _run(model: nn.Module, images: Float[Tensor, "B 3 h w"], name: str) -> Float[Tensor, "B C"]:
    """The model's logits; raises TeacherError if it fails, or gives anything else."""
    try:
        with torch.no_grad():
            output = model(images)
    except Exception as error:  # other people's code fails in its own ways
        raise TeacherError(
            f"{name}: its forward pass on float32 images {list(images.shape)} fails: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(output, Tensor):
        raise TeacherError(f"{name}: its forward pass gives a {type(output).__name__}, no tensor; {_WRAP}")
    number = len(images)
    if output.ndim != 2 or len(output) != number or not output.numel() or not output.is_floating_point():
        raise TeacherError(
            f"{name}: its forward pass on {number} image{'s' if number > 1 else ''} gives "
            f"{str(output.dtype).removeprefix('torch.')} {list(output.shape)}, wanted floating-point logits "
            f"[{number}, C]; {_WRAP}"
        )
    return output


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
