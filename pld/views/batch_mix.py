"""Batched `mix_pixels` for a GPU."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from pld.views.mixing import BLENDED, OWN_IN_BOX, PARTNER_IN_BOX, Mixing


def mix_views(
    own: UInt8[Tensor, "B 3 h w"], others: UInt8[Tensor, "B 3 h w"], mixing: Mixing
) -> UInt8[Tensor, "B 3 h w"]:
    """What views become, each mixed with another: bit for bit what `mix_pixels` makes of each pair.

    Args:
        own: the views of the samples themselves.
        others: of their partners.
        mixing: with one axis, B.
    """
    device = own.device
    kinds = torch.from_numpy(mixing.kinds).to(device)[:, None, None, None]
    inside = _inside_boxes(mixing, own.shape[2], own.shape[3]).to(device)[:, None]
    is_other = ((kinds == PARTNER_IN_BOX) & inside) | ((kinds == OWN_IN_BOX) & ~inside)
    mixed = torch.where(is_other, others, own)
    blended = torch.from_numpy(np.flatnonzero(mixing.kinds == BLENDED)).to(device)
    if len(blended):
        shares = mixing.shares[mixing.kinds == BLENDED].astype(np.float32)
        share = torch.from_numpy(shares).to(device)[:, None, None, None]
        blend = own[blended].float() * share + others[blended].float() * (1 - share)
        mixed[blended] = blend.round_().to(torch.uint8)
    return mixed


def _inside_boxes(mixing: Mixing, height: int, width: int) -> Bool[Tensor, "B h w"]:
    sides = np.rint(mixing.boxes * (height, width, height, width))
    top, left, bottom, right = torch.from_numpy(sides).unbind(1)
    y, x = torch.arange(height), torch.arange(width)
    rows = (y >= top[:, None]) & (y < bottom[:, None])
    columns = (x >= left[:, None]) & (x < right[:, None])
    return rows[:, :, None] & columns[:, None, :]
