"""Mix the pixels of two views."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from pld.views.mixing import BLENDED, OWN_IN_BOX, UNMIXED, Mixing


def mix_pixels(
    own: UInt8[ndarray, "h w 3"], other: UInt8[ndarray, "h w 3"], mixing: Mixing, out: UInt8[ndarray, "h w 3"]
) -> None:
    """Write to `out`, which may be `own`, what one view becomes; `mixing` is of this view alone, without axes.

    A blend is rounded to the nearest of float32's values, as timm's FastCollateMixup; a box's sides to whole pixels.
    """
    if mixing.kinds == UNMIXED:
        out[:] = own
    elif mixing.kinds == BLENDED:
        share = np.float32(mixing.shares)
        blend = own.astype(np.float32) * share
        blend += other.astype(np.float32) * (np.float32(1) - share)
        out[:] = np.rint(blend, out=blend)
    else:
        height, width = own.shape[:2]
        top, left, bottom, right = np.rint(mixing.boxes * (height, width, height, width)).astype(int).tolist()
        box = slice(top, bottom), slice(left, right)
        if mixing.kinds == OWN_IN_BOX:
            inside = own[box].copy()
            out[:] = other
            out[box] = inside
        else:
            if out is not own:
                out[:] = own
            out[box] = other[box]
