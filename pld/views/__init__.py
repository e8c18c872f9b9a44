"""A view: one crop and flip of one image, a pure function of (view seed, sample key, view index).

The teacher in stage one and the student in stage two draw the same views, on any machine, with any number of workers,
because nothing else enters: no position, epoch, rank or worker.
"""

from pld.views.apply import Interpolation, apply_view
from pld.views.draw import View, draw_view
from pld.views.policy import DRAWING_VERSION, Fixed, Policy, RandomResizedCrop, policy_from_json, policy_to_json

__all__ = [
    "DRAWING_VERSION",
    "Fixed",
    "Interpolation",
    "Policy",
    "RandomResizedCrop",
    "View",
    "apply_view",
    "draw_view",
    "policy_from_json",
    "policy_to_json",
]
