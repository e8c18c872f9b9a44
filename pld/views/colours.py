"""ImageNet's mean colour and spread, by which images are normalised and empty places are filled."""

from __future__ import annotations

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MEAN_COLOUR = (124, 116, 104)
"""IMAGENET_MEAN in steps of 255, rounded as timm's create_transform does."""
