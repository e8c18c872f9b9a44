"""Which images a request's views are mixed with, within the request or beside it, and the mixing in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from pld.errors import ConfigError
from pld.views import Mixing, Policy, mix_steps
from pld.views.mix_pixels import mix_pixels
from pld.views.mixing import UNMIXED

Uses = dict[int, list[int]]
"""The places that an image beside the request is mixed into, by the position of the view among the request's."""


def check_mixing(policy: Policy, mixing: Mixing | None) -> None:
    """Raise ConfigError unless a request says what its views are mixed with where the policy mixes, and only there."""
    steps = ", ".join(step.name for step in mix_steps(policy))
    if steps and mixing is None:
        raise ConfigError(
            f"view policy: has {steps}, and nothing says which images are mixed; give decode_views the plan that "
            "pld.join.mixing.plan_mixing(source, policy, stores) makes, or a ViewRequest its mixing"
        )
    if mixing is not None and not steps:
        raise ConfigError("view policy: mixes nothing, and the views asked for are mixed; leave the mixing out")


def find_partners(
    rows: Int64[ndarray, "n"], mixing: Mixing | None, num_views: int
) -> tuple[Int64[ndarray, "n V"], dict[int, Uses]]:
    """Where the images are that a request's views are mixed with.

    Returns:
        The place in the request of the image that a view is mixed with, -1 for none; and the rows of the images that
        are not in the request, with their uses.
    """
    inside = np.full((len(rows), num_views), -1, np.int64)
    beside: dict[int, Uses] = {}
    if mixing is None:
        return inside, beside
    place_of = {row: place for place, row in enumerate(rows.tolist())}
    for place, number in np.argwhere(mixing.kinds != UNMIXED).tolist():
        partner = int(mixing.partners[place, number])
        if partner in place_of:
            inside[place, number] = place_of[partner]
        else:
            beside.setdefault(partner, {}).setdefault(number, []).append(place)
    return inside, beside


def find_mixable(
    good: Bool[ndarray, "n"], inside: Int64[ndarray, "n V"], beside: Mapping[int, Uses], bad: Container[int] = ()
) -> Bool[ndarray, "n V"]:
    """Which views can be as requested: those of good images, whose partners are good.

    Args:
        good: which rows of the request are.
        inside, beside: as `find_partners` returns them.
        bad: rows beside the request that cannot be decoded.
    """
    mixable: Bool[ndarray, "n V"] = good[:, None] & ((inside < 0) | good[inside])
    for row, uses in beside.items():
        if row in bad:
            for number, places in uses.items():
                mixable[places, number] = False
    return mixable


def mix_within(
    images: UInt8[Tensor, "n V 3 h w"], inside: Int64[ndarray, "n V"], mixable: Bool[ndarray, "n V"], mixing: Mixing
) -> None:
    """Mix views with other views of the same request, in place.

    A view that others are still to be mixed with is copied before it changes: one at a time where partners are
    neighbours.

    Args:
        images: channels last.
        inside: as `find_partners` returns it.
        mixable: the views to mix.
        mixing: of the request.
    """
    for view in range(inside.shape[1]):
        pixels = images[:, view].permute(0, 2, 3, 1).numpy()
        places = np.flatnonzero(mixable[:, view] & (inside[:, view] >= 0)).tolist()
        waiting = Counter(inside[places, view].tolist())
        originals: dict[int, ndarray] = {}
        for place in places:
            partner = int(inside[place, view])
            waiting[partner] -= 1
            if waiting[place]:
                originals[place] = pixels[place].copy()
            own, other = pixels[place], originals.get(partner, pixels[partner])
            mix_pixels(own, other, mixing[place, view, ...], out=own)
            if not waiting[partner]:
                originals.pop(partner, None)


def leave_unmixed(mixing: Mixing, rows: Int64[ndarray, "n"], done: Bool[ndarray, "n V"]) -> Mixing:
    """A request's mixing, where `done` says so; elsewhere views are their own images' alone."""
    return Mixing(
        partners=np.where(done, mixing.partners, rows[:, None]),
        shares=np.where(done, mixing.shares, 1.0),
        kinds=np.where(done, mixing.kinds, UNMIXED).astype(np.int8),
        boxes=np.where(done[..., None], mixing.boxes, 0.0),
    )
