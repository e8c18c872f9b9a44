"""A transformers image processor as our Preprocessing: read from its settings, then checked by running it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from pld.errors import TeacherError, first_line
from pld.views import Fixed, Interpolation, apply_view
from pld.views.preprocessing import Preprocessing

# Pillow's numbers of filters.
_INTERPOLATIONS: Mapping[Any, Interpolation] = {2: "bilinear", 3: "bicubic"}
_REFUSED = {
    "do_flip_channel_order": "swaps red and blue",
    "do_color_quantize": "replaces colours by the nearest of a palette",
    "do_pad": "pads images",
    "do_thumbnail": "resizes in steps of its own",
    "do_align_long_axis": "turns images",
    "do_image_splitting": "splits images",
}
# ConvNeXT's processor takes no crop from this size on, and this crop below it unless it says; LeViT's always takes it.
_CONVNEXT_WHOLE = 384
_CONVNEXT_CROP = 224 / 256
_MAX_SIDE = 4096  # pixels
_COLOURS = ((0, 0, 0), (250, 30, 90), (20, 140, 255))
_ADVICE = "write a function with a Preprocessing of its own: --teacher python:MODULE:FUNCTION"


def read_preprocessing(processor: Any, name: str) -> tuple[Preprocessing, str | None]:
    """An image processor's preprocessing, and a note if it squeezes images that are not square.

    Args:
        processor: an image processor of transformers.
        name: the teacher's, for messages.

    Raises:
        TeacherError: it does something that Preprocessing cannot express; says which setting.
    """
    settings = processor.to_dict()
    for setting, meaning in _REFUSED.items():
        if settings.get(setting):
            raise TeacherError(f"{name}: its image processor {meaning} ({setting}), which is not supported; {_ADVICE}")
    if settings.get("resample") not in _INTERPOLATIONS:
        raise TeacherError(
            f"{name}: its image processor has resample {settings.get('resample')!r}; supported are 2 (bilinear) and "
            f"3 (bicubic); {_ADVICE}"
        )
    input_size, crop_fraction, squeezes = _read_geometry(settings, name)
    mean, std = _read_colours(settings, name)
    preprocessing = Preprocessing(
        input_size=input_size,
        interpolation=_INTERPOLATIONS[settings["resample"]],
        mean=mean,
        std=std,
        crop_fraction=crop_fraction,
    )
    _check(processor, preprocessing, name)
    note = (
        f"{name}: its own pipeline squeezes a whole image into {input_size[0]} x {input_size[1]} pixels; the view "
        "policy 'fixed' takes the centre square instead"
    )
    return preprocessing, note if squeezes else None


def _read_geometry(settings: Mapping[str, Any], name: str) -> tuple[tuple[int, int], float, bool]:
    """The input size, the crop fraction, and whether images that are not square are squeezed."""
    if not settings.get("do_resize"):
        raise TeacherError(f"{name}: its image processor resizes nothing (do_resize), so that sizes differ; {_ADVICE}")
    height, width, keeps_ratio = _sides(settings.get("size"), name)
    kind = re.sub(r"(Fast|Pil)$", "", str(settings.get("image_processor_type")))
    crop_pct = settings.get("crop_pct")
    if crop_pct and not (isinstance(crop_pct, int | float) and 0 < crop_pct <= 1):
        raise TeacherError(f"{name}: its image processor has crop_pct {crop_pct!r}, wanted a number in 0..1; {_ADVICE}")
    if kind == "ConvNextImageProcessor":
        if height >= _CONVNEXT_WHOLE:
            return (height, width), 1.0, True
        return (height, width), height / int(height / (crop_pct or _CONVNEXT_CROP)), False
    if kind == "LevitImageProcessor" and keeps_ratio:
        height = width = int(height / _CONVNEXT_CROP)
    elif crop_pct:
        height, width, keeps_ratio = int(height / crop_pct), int(width / crop_pct), True
    if not settings.get("do_center_crop"):
        if keeps_ratio:
            raise TeacherError(
                f"{name}: its image processor resizes the shorter side and crops nothing, so that sizes differ; "
                f"{_ADVICE}"
            )
        return (height, width), 1.0, True
    crop_height, crop_width, _ = _sides(settings.get("crop_size"), name)
    if crop_height > height or crop_width > width:
        raise TeacherError(
            f"{name}: its image processor resizes to {height} x {width} and crops {crop_height} x {crop_width}, which "
            f"pads; {_ADVICE}"
        )
    return (crop_height, crop_width), crop_height / height, not keeps_ratio


def _sides(size: Any, name: str) -> tuple[int, int, bool]:
    """Height, width, and whether they are only the shorter side's, of a `size` or a `crop_size`."""
    given: dict[str, Any] = {key: value for key, value in dict(size or {}).items() if value is not None}
    keys = {*given}
    if keys in ({"shortest_edge"}, {"height", "width"}) and all(map(_is_side, given.values())):
        if shortest := given.get("shortest_edge"):
            return shortest, shortest, True
        return given["height"], given["width"], False
    raise TeacherError(
        f"{name}: its image processor has the size {given}; supported are shortest_edge, or height and width, up to "
        f"{_MAX_SIDE}; {_ADVICE}"
    )


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MAX_SIDE


def _read_colours(settings: Mapping[str, Any], name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of pixels in 0..1: what rescaling by another factor and normalising twice come to."""
    factor = (settings.get("rescale_factor") or 1 / 255) if settings.get("do_rescale") else 1.0
    if not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise TeacherError(f"{name}: its image processor has rescale_factor {factor!r}, wanted a positive number")
    scale = 1.0 if math.isclose(255 * factor, 1) else 255 * factor
    offset = 1.0 if settings.get("rescale_offset") and settings.get("do_rescale") else 0.0
    mean, std = (
        _channels(settings.get(key) if settings.get("do_normalize") else plain, f"{name}: its image processor's {key}")
        for key, plain in (("image_mean", 0.0), ("image_std", 1.0))
    )
    # EfficientNet's processor divides by image_std once more, whether it normalises or not.
    if settings.get("include_top"):
        std = tuple(value * again for value, again in zip(std, _channels(settings.get("image_std"), name), strict=True))
    return tuple((value + offset) / scale for value in mean), tuple(value / scale for value in std)


def _channels(value: Any, where: str) -> tuple[float, ...]:
    values = [value] * 3 if isinstance(value, int | float) else list(value or ())
    if len(values) != 3 or not all(isinstance(x, int | float) and math.isfinite(x) for x in values):
        raise TeacherError(f"{where} is {value!r}, wanted three numbers; correct preprocessor_config.json")
    return tuple(float(x) for x in values)


def _check(processor: Any, preprocessing: Preprocessing, name: str) -> None:
    """Run the processor on plain and on graded images; raises TeacherError if it makes other pixels than we do."""
    side = 2 * max(preprocessing.input_size)
    for colour in _COLOURS:
        image = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, side, side).contiguous()
        _compare(processor, preprocessing, image, 0.5, f"{name}: its image processor makes other colours")
    # Red rises to the right, green downwards, blue both ways; an output pixel's step is what edges may differ by.
    ramp = torch.linspace(0, 255, side).round()
    right, down = ramp.expand(side, side), ramp[:, None].expand(side, side)
    image = torch.stack([right, down, (right + down) / 2]).round().to(torch.uint8)
    tolerance = 2 + 255 / min(preprocessing.input_size)
    _compare(processor, preprocessing, image, tolerance, f"{name}: its image processor cuts or resizes otherwise")


def _compare(
    processor: Any, preprocessing: Preprocessing, image: UInt8[Tensor, "3 H W"], tolerance: float, fault: str
) -> None:
    """Raise TeacherError if the processor's pixels differ by more than a tolerance, in steps of 0..255."""
    try:
        picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        theirs = torch.as_tensor(np.asarray(processor(images=[picture], return_tensors="pt")["pixel_values"][0]))
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        raise TeacherError(f"{fault}: {first_line(error)}; {_ADVICE}") from error
    view = Fixed(crop_fraction=preprocessing.crop_fraction).draw("", 0, (image.shape[1], image.shape[2]))
    ours = preprocessing.normalize(
        apply_view(image, view, preprocessing.input_size, preprocessing.interpolation)[None]
    )[0]
    if theirs.shape != ours.shape:
        raise TeacherError(f"{fault}: {list(theirs.shape)} where its settings mean {list(ours.shape)}; {_ADVICE}")
    difference = _largest(theirs.float() - ours, preprocessing.std)
    if not difference <= tolerance:
        raise TeacherError(
            f"{fault} than its settings say: by {difference:.1f} of 255 where {tolerance:.1f} is rounding; {_ADVICE}"
        )


def _largest(difference: Float[Tensor, "3 h w"], std: tuple[float, ...]) -> float:
    """The largest difference, of normalised pixels, in steps of 0..255."""
    return float((difference * torch.tensor(std)[:, None, None] * 255).abs().max())
