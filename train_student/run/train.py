"""Stage two, whole: open, check, train, validate, export."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator

from pld.config import parse_config
from pld.errors import ConfigError
from train_student.config import RECIPES, TrainConfig
from train_student.loop.guards import Preemption
from train_student.run.dry_run import dry_run
from train_student.run.publish import publish
from train_student.run.resume import check_same_settings
from train_student.run.run import Run
from train_student.run.run_folder import RunFolder

_MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def main(argv: Sequence[str]) -> None:
    """The command."""
    description = (TrainConfig.__doc__ or "").split("\n")[0]
    config = parse_config(TrainConfig, argv, prog="train-student", description=description, named_files=RECIPES)
    (dry_run if config.dry_run else train)(config)


def train(config: TrainConfig) -> None:
    """Train a student as configured and leave everything about it in its run folder.

    Raises:
        PLDError: something that the user can mend, found before the first step wherever possible.
        SystemExit: with 143, after SIGTERM and a last checkpoint.
    """
    if config.deterministic:
        _use_deterministic_kernels()
    accelerator = _accelerator(config)
    folder = RunFolder(Path(config.output))
    begun = folder.begun
    if begun and config.resume == "never":
        raise ConfigError(
            f"{config.output}: holds a run already; go on with it with --resume auto, name another folder with "
            "--output, or remove it"
        )
    if begun:
        check_same_settings(config, folder.path)
        if any(line["epoch"] == config.epochs for line in folder.metrics()):
            print(f"{config.output}: finished already")
            return
    run = Run(accelerator, config, folder)
    run.begin(go_on=begun)
    with Preemption() as preemption:
        run.epochs(preemption)
    if accelerator.is_main_process and config.push_to_hub:
        publish(folder.path / "model", config.push_to_hub)
    accelerator.end_training()


def _use_deterministic_kernels() -> None:
    """From here on an operation that has none raises RuntimeError, which names it."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA begins; cuBLAS's own condition
    torch.use_deterministic_algorithms(True)
    # Nothing here reads what it did not write.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _accelerator(config: TrainConfig) -> Accelerator:
    log_with = None if config.tracker == "none" else config.tracker
    try:
        return Accelerator(
            mixed_precision=_MIXED_PRECISION[config.autocast], log_with=log_with, project_dir=config.output
        )
    except ValueError as error:
        raise ConfigError(f"--tracker {config.tracker} or --precision {config.precision}: {error}") from error
