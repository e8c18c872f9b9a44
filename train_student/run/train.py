"""Stage two, whole: open, check, train, validate, export."""

from __future__ import annotations

import datetime
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed

from pld.config import parse_config
from pld.errors import ConfigError
from pld.logs import Setup, set_up_logs
from pld.options import as_flat
from pld.process.stopping import Stopping
from train_student.config import RECIPES, TrainConfig
from train_student.data.teacher_signal import open_teacher_signal
from train_student.data.training_data import open_training_data
from train_student.loop.checkpoint import Checkpoints
from train_student.loop.learner import Learner
from train_student.loop.metrics_file import MetricsFile
from train_student.loop.run_batches import count_steps
from train_student.loop.trainer import Trainer
from train_student.model.initial_weights import InitialWeights
from train_student.model.student import build_student
from train_student.option_groups import RunOptions
from train_student.run.beginning import Beginning, check_same_weights, read_beginning
from train_student.run.content import Content, check_same_content
from train_student.run.describe import describe_run, first_lines
from train_student.run.init_from import open_initial_weights
from train_student.run.launcher_variables import check_launcher_variables
from train_student.run.place import RunPlace, folder_of, hold_run
from train_student.run.plan.dry_run import dry_run
from train_student.run.publish import publish
from train_student.run.room import check_disk_room, check_loader_room
from train_student.run.run_folder import (
    check_same_settings,
    create_run_folder,
    holds_run,
    how_to_continue,
    remove_remains,
)

_LOG = logging.getLogger(__name__)

# A launcher tells a run's other processes that one has ended; it looks ten times a second.
_LAUNCHER_SECONDS = 5.0
# While the first process pushes to a slow bucket, the others wait in a collective, by default for 10 minutes with NCCL.
_PUSH_TIMEOUT = datetime.timedelta(hours=3)
_MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def main(argv: Sequence[str], stopping: Stopping | None = None) -> None:
    """The command; `stopping` is what signals ask, where they are handled."""
    description = TrainConfig.__doc__ or ""
    config = parse_config(TrainConfig, argv, prog="train-student", description=description, named_files=RECIPES)
    set_up_logs(Setup(level=config.run.log_level, file=config.run.log_file))
    check_launcher_variables(os.environ, config.run.resolved_precision)
    if config.run.dry_run:
        dry_run(config)
    else:
        train(config, stopping)


def train(config: TrainConfig, stopping: Stopping | None = None) -> None:
    """Train a student as configured and leave everything about it in its run folder.

    Args:
        config: the run's.
        stopping: asks this process to stop; None where nothing does.

    Raises:
        PLDError: something that the user can mend, found before the first step wherever possible.
        Stopped: the run was asked to stop, and has saved a checkpoint if it had trained anything.
    """
    stopping = stopping or Stopping()
    stopping.options = [] if config.run.resume == "auto" else ["--resume", "auto"]
    if config.run.deterministic:
        _use_deterministic_kernels()
    accelerator = _accelerator(config.run)
    try:
        with hold_run(accelerator, config.run) as place:
            _train(accelerator, config, place, stopping)
    except RuntimeError as error:
        if not _has_ended(error, accelerator) or not stopping.wait(_LAUNCHER_SECONDS):
            raise
        raise stopping.stopped(
            ", since another process of the run has ended; steps since the last checkpoint are lost"
        ) from error


def _train(accelerator: Accelerator, config: TrainConfig, place: RunPlace, stopping: Stopping) -> None:
    """`train` once this command has the run's place to itself."""
    folder = place.folder
    is_begun = holds_run(folder, config.run.log_file)
    if is_begun and config.run.resume == "never":
        raise ConfigError(
            f"{place.name}: holds a run already. Continue it with --resume auto, remove it, or name another place "
            f"with --output.{how_to_continue(folder)}"
        )
    if is_begun:
        check_same_settings(folder, config)
        if any(line["epoch"] == config.optimizer.epochs for line in MetricsFile(folder).lines()):
            _LOG.info("%s: finished already.%s", place.name, how_to_continue(folder))
            return
    trainer = _start(accelerator, config, place, stopping, is_begun=is_begun)
    trainer.train()
    stopping.finish()
    if place.mirror:
        place.mirror.finish()
    if accelerator.is_main_process and config.run.push_to_hub:
        publish(folder / "model", config.run.push_to_hub)
    accelerator.end_training()


def _has_ended(error: RuntimeError, accelerator: Accelerator) -> bool:
    """Whether it is what a process is told of another one that it exchanges tensors with."""
    is_exchange = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
    return accelerator.num_processes > 1 and is_exchange


def _start(
    accelerator: Accelerator, config: TrainConfig, place: RunPlace, stopping: Stopping, *, is_begun: bool
) -> Trainer:
    """A trainer at the run's beginning or last checkpoint, its folder in order, what it does told."""
    folder, mirror = place.folder, place.mirror
    data, world = open_training_data(config, accelerator.device), accelerator.num_processes
    steps_per_epoch = count_steps(config.optimizer, config.data.streams, len(data.train), world)
    signal = open_teacher_signal(config, data, accelerator)
    content = Content.of(data, signal)
    if is_begun:
        check_same_content(folder, content)
    set_seed(config.run.seed)
    begun, weights = _find_beginning(config, folder, is_begun=is_begun)
    student = build_student(
        config.model,
        data.classes,
        crop_fraction=config.validation.crop_fraction,
        weights=weights,
        begun=begun.preprocessing if begun else None,
    )
    learner = Learner(accelerator, config, signal, student, steps_per_epoch=steps_per_epoch)
    push = mirror.push if mirror else None
    trainer = Trainer(accelerator, config, data, learner, steps_per_epoch, folder, stopping, place.check_owner, push)
    checkpoint = trainer.restore() if is_begun else None
    check_loader_room(config, data, learner, world)
    if accelerator.is_main_process:
        check_disk_room(config, learner, trainer.checkpoints)
        if not is_begun:
            beginning = Beginning.of(student, weights)
            facts = describe_run(config, data, learner, world) | beginning.facts() | content.facts()
            create_run_folder(folder, config, facts)
            if mirror:
                mirror.begin()
        remove_remains(folder)
        MetricsFile(folder).drop_after(trainer.progress.epoch)
        for line in first_lines(config, trainer.data, signal.approximate, world):
            _LOG.info("%s: %s", config.run.output, line)
        for warning in filter(None, (data.pixel_warning, student.note)):
            _LOG.warning("%s", warning)
        if checkpoint:
            _LOG.info("%s: goes on from %s, %s", config.run.output, checkpoint.name, trainer.progress.where)
    if config.run.tracker != "none":
        accelerator.init_trackers("pld-distill", config=_tracked(config))
    return trainer


def _find_beginning(
    config: TrainConfig, folder: Path, *, is_begun: bool
) -> tuple[Beginning | None, InitialWeights | None]:
    """What the run in the folder began with, and the weights to load, which a run with a checkpoint has in it."""
    begun = read_beginning(folder) if is_begun else None
    if is_begun and Checkpoints(folder / "checkpoints", config.run.keep_checkpoints).paths():
        return begun, None
    weights = open_initial_weights(config.model)
    if is_begun:
        check_same_weights(folder, begun, weights)
    return begun, weights


def _tracked(config: TrainConfig) -> dict[str, bool | int | float | str]:
    """The options as trackers take them."""
    values = as_flat(config).items()
    return {name: value if isinstance(value, bool | int | float | str) else json.dumps(value) for name, value in values}


def _use_deterministic_kernels() -> None:
    """From here on an operation that has none raises RuntimeError, which names it."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA begins; cuBLAS's own condition
    torch.use_deterministic_algorithms(True)
    # Nothing here reads what it did not write.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _accelerator(options: RunOptions) -> Accelerator:
    log_with = None if options.tracker == "none" else options.tracker
    try:
        accelerator = Accelerator(
            mixed_precision=_MIXED_PRECISION[options.resolved_precision],
            log_with=log_with,
            project_dir=str(folder_of(options.output)),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_PUSH_TIMEOUT)] if "://" in options.output else None,
        )
    except ValueError as error:
        raise ConfigError(f"--tracker {options.tracker} or --precision {options.precision}: {error}") from error
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ConfigError(
            f"WORLD_SIZE is {launched}, but accelerate runs {accelerator.num_processes} process: each would train by "
            "itself and write the same folder. Without GPUs, set ACCELERATE_USE_CPU=true"
        )
    return accelerator
