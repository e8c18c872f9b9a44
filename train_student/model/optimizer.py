"""The student's optimizer and schedule: timm's."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import nn

from pld.errors import ConfigError
from train_student.option_groups import OptimizerOptions


def build_optimizer(options: OptimizerOptions, model: nn.Module) -> torch.optim.Optimizer:
    """timm's optimizer; biases and norms are not decayed."""
    known = [str(name) for name in list_optimizers()]
    if options.opt not in known:
        raise ConfigError(f"--opt {options.opt}: unknown to timm; it has {', '.join(known)}")
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            model, opt=options.opt, lr=options.lr, weight_decay=options.weight_decay, **options.opt_kwargs
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--opt_kwargs {options.opt_kwargs}: {options.opt}: {error}") from error
    return optimizer


def build_schedule(options: OptimizerOptions, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Any:
    """timm's schedule, stepped by update: `schedule.step_update(updates_done)`."""
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched=options.sched,
        num_epochs=options.epochs,
        warmup_epochs=min(options.warmup_epochs, options.epochs - 1),
        min_lr=options.min_lr,
        step_on_epochs=False,
        updates_per_epoch=steps_per_epoch,
    )
    return schedule
