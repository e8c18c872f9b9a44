"""Views, mixed or not, step by step: the twin of what decoders do at once and in place."""

import numpy as np
import torch

from pld.images import Source
from pld.images.dataset import read_image
from pld.views import Mixing, MixingPlan, Policy, apply_view, draw_view
from pld.views.mix_pixels import mix_pixels
from pld.views.preprocessing import Preprocessing


def own_view(source: Source, row: int, index: int, policy: Policy, output: Preprocessing) -> torch.Tensor:
    """uint8 [3, h, w], of the image alone."""
    image = read_image(source, row)
    view = draw_view(source.key(row), index, (image.shape[1], image.shape[2]), policy)
    return apply_view(image, view, output.input_size, output.interpolation)


def mixed(own: torch.Tensor, other: torch.Tensor, mixing: Mixing) -> torch.Tensor:
    """Two views mixed, neither changed."""
    out = np.empty((*own.shape[1:], 3), np.uint8)
    mix_pixels(own.permute(1, 2, 0).numpy(), other.permute(1, 2, 0).numpy(), mixing, out)
    return torch.from_numpy(out).permute(2, 0, 1)


def planned_view(
    source: Source, row: int, index: int, policy: Policy, plan: MixingPlan | None, output: Preprocessing
) -> torch.Tensor:
    """The view as a plan has it."""
    own = own_view(source, row, index, policy, output)
    if plan is None:
        return own
    mixing = plan.mixing(index, np.array([row]))
    other = own_view(source, int(mixing.partners[0]), index, policy, output)
    return mixed(own, other, mixing[0, ...])
