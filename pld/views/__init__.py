"""A view: one crop of one image and what is done to it, a pure function of (view seed, sample key, view index).

The teacher in stage one and the student in stage two draw the same views, on any machine, with any number of workers,
because nothing else enters: no position, epoch, rank or worker.
"""

from pld.views.crops import Fixed, RandomResizedCrop
from pld.views.mixing import CutMix, Mixing, MixingPlan, Mixup
from pld.views.own_steps import register_policy_step
from pld.views.policy import (
    DRAWING_VERSION,
    Policy,
    draw_view,
    mix_steps,
    pixel_steps,
    policy_from_json,
    policy_to_json,
)
from pld.views.policy_text import PRESETS, parse_policy
from pld.views.steps import ColorJitter, Op, PixelStep, RandAugment, RandomErasing, Step, ThreeAugment
from pld.views.view import Interpolation, View, apply_view

__all__ = [
    "DRAWING_VERSION",
    "PRESETS",
    "ColorJitter",
    "CutMix",
    "Fixed",
    "Interpolation",
    "Mixing",
    "MixingPlan",
    "Mixup",
    "Op",
    "PixelStep",
    "Policy",
    "RandAugment",
    "RandomErasing",
    "RandomResizedCrop",
    "Step",
    "ThreeAugment",
    "View",
    "apply_view",
    "draw_view",
    "mix_steps",
    "parse_policy",
    "pixel_steps",
    "policy_from_json",
    "policy_to_json",
    "register_policy_step",
]
