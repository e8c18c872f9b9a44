"""A view: one crop and flip of one image, a pure function of (view seed, sample key, view index).

The teacher in stage one and the student in stage two draw the same views, on any machine, with any number of workers,
because nothing else enters: no position, epoch, rank or worker.
"""

from pld.views.crops import Fixed, RandomResizedCrop
from pld.views.policy import DRAWING_VERSION, Policy, draw_view, policy_from_json, policy_to_json
from pld.views.view import Interpolation, View, apply_view

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
