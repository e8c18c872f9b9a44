"""A sheet of views as a student sees them: a picture of some images' views, with what they are mixed with."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

from pld.images import Source
from pld.loading import decode_views, view_decoder
from pld.views import Mixing, MixingPlan, Policy
from pld.views.preprocessing import Preprocessing

_SIDE, _GAP, _LINE, _FONT_SIZE = 192, 12, 18, 14
_PAPER, _INK, _FAINT = "white", "black", "#666666"


def draw_sheet(
    source: Source, policy: Policy, plan: MixingPlan | None, title: str, *, num_images: int, num_views: int
) -> Image.Image:
    """Draw views 0, 1, ... of images that are spread over the dataset at random: a row of the sheet for each image.

    Below each view are the share and the label of the image and of what it is mixed with, and the image's key.

    Args:
        source: the images.
        policy: how views are drawn.
        plan: what they are mixed with, if they are.
        title: the line above.
        num_images: at most so many.
        num_views: of each.

    Raises:
        UndecodableImageError: one of them cannot be decoded; names the sample.
        DataError: one cannot be read.
    """
    rows = np.random.default_rng(0).permutation(len(source))[:num_images]
    decoder = view_decoder(source, policy, [Preprocessing(input_size=(_SIDE, _SIDE))])
    (views,) = decode_views(decoder, rows.tolist(), range(num_views), plan)
    mixing = Mixing.stack([plan.mixing(view, rows) for view in range(num_views)]) if plan else None
    height, width = _SIDE + (3 if plan else 2) * _LINE + _GAP, _SIDE + _GAP
    sheet = Image.new("RGB", (num_views * width + _GAP, len(rows) * height + _LINE + 2 * _GAP), _PAPER)
    _write(sheet, (_GAP, _GAP), title, sheet.width - 2 * _GAP)
    for place, row in enumerate(rows.tolist()):
        for view in range(num_views):
            pixels = views[place, view].permute(1, 2, 0).numpy()
            lines = caption(source, row, mixing and mixing[place, view, ...])
            _paste(sheet, (_GAP + view * width, 2 * _GAP + _LINE + place * height), pixels, lines)
    return sheet


def caption(source: Source, row: int, mixing: Mixing | None) -> list[str]:
    """A line for each image that a view shows, the larger share first, and the key of the first.

    Args:
        source: the images.
        row: of the view's own image.
        mixing: of this view alone.
    """
    key = source.key(row)
    own = label_name(source, row)
    if mixing is None:
        return [own or key, key] if own else [key]
    share, partner = float(mixing.shares), int(mixing.partners)
    other = "" if partner == row else f"{1 - share:.2f} {label_name(source, partner) or source.key(partner)}"
    return [f"{share:.2f} {own or key}", other, key]


def label_name(source: Source, row: int) -> str | None:
    """The name or number of a sample's class; None without labels."""
    label = source.label(row)
    return None if label is None else source.class_names[label] if source.class_names else f"class {label}"


def _paste(sheet: Image.Image, at: tuple[int, int], pixels: UInt8[ndarray, "h w 3"], lines: Sequence[str]) -> None:
    left, top = at
    sheet.paste(Image.fromarray(pixels), at)
    for number, line in enumerate(lines):
        ink = _INK if number < len(lines) - 1 or len(lines) == 1 else _FAINT
        _write(sheet, (left, top + _SIDE + 2 + number * _LINE), line, _SIDE, ink)


def _write(sheet: Image.Image, at: tuple[int, int], text: str, width: int, ink: str = _INK) -> None:
    """Write a line, shortened in its middle to a width: names differ at both ends."""
    font, draw = ImageFont.load_default(_FONT_SIZE), ImageDraw.Draw(sheet)
    fits = bisect.bisect(
        range(1, len(text) + 1), width, key=lambda kept: math.ceil(draw.textlength(_shorten(text, kept), font))
    )
    draw.text(at, _shorten(text, fits) if fits else "", ink, font)


def _shorten(text: str, kept: int) -> str:
    return text if kept >= len(text) else f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
