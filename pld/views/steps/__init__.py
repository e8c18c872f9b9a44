"""Steps of a view policy after the crop: RandAugment, colour jitter, ThreeAugment, erasing; drawn, then applied."""

from pld.views.steps.color_jitter import ColorJitter
from pld.views.steps.op import Op
from pld.views.steps.ops import apply_ops
from pld.views.steps.rand_augment import RandAugment
from pld.views.steps.random_erasing import RandomErasing
from pld.views.steps.step import PixelStep, Step, check_steps
from pld.views.steps.three_augment import ThreeAugment

__all__ = [
    "ColorJitter",
    "Op",
    "PixelStep",
    "RandAugment",
    "RandomErasing",
    "Step",
    "ThreeAugment",
    "apply_ops",
    "check_steps",
]
