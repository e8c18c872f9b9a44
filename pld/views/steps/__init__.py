"""Steps of a view policy after the crop: RandAugment, colour jitter, ThreeAugment, erasing; drawn, then applied."""

from pld.views.steps.step import PixelStep, Step, check_steps

__all__ = ["PixelStep", "Step", "check_steps"]
