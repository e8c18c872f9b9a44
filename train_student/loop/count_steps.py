"""How many steps an epoch has."""

from __future__ import annotations

from pld.errors import ConfigError
from train_student.config import OptimizerOptions


def count_steps(options: OptimizerOptions, streams: int, num_samples: int, world: int) -> int:
    """Global batches in an epoch; raises ConfigError where there is none, or the processes cannot share them."""
    size, accumulate, views = options.batch_size, options.accumulate, options.views_per_image
    if size % (world * accumulate * views):
        of_views = f" of {views} views an image" if views > 1 else ""
        raise ConfigError(
            f"--batch_size {size}: {world} processes of {accumulate} micro-batches{of_views} do not divide it"
        )
    if num_samples * views < size:
        raise ConfigError(f"--batch_size {size}: there are {num_samples} images, less than one batch")
    if streams % world:
        raise ConfigError(f"--streams {streams}: wanted a multiple of the {world} processes")
    return num_samples * views // size
