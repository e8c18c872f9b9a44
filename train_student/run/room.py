"""What a run will want of its machine, compared with what there is before the run leaves anything in its folder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from pld.errors import OutputError
from pld.evaluation import BATCH_SIZE
from pld.loading import Loaders, Machine, check_loaders
from pld.report.quantities import bytes_text
from pld.views.preprocessing import Preprocessing
from train_student.config import TrainConfig
from train_student.data.training_data import TrainingData
from train_student.loop.checkpoint import Checkpoints
from train_student.loop.learner import Learner

# Logs, and a store's next view: a run should not be refused at its first validation for want of descriptors.
_OPENED_BEFORE_VALIDATION = 8


def check_loader_room(config: TrainConfig, data: TrainingData, learner: Learner, world: int) -> None:
    """Raise ConfigError where this machine has too little for a process's loaders, of training and validation."""
    workers, accumulate = config.data.workers, config.optimizer.accumulate
    student, teachers = learner.preprocessing, learner.signal.preprocessings
    images = config.optimizer.batch_size // world // accumulate
    training = _loaders(workers, accumulate, images, [student, *teachers])
    validation = _loaders(workers, 1, min(BATCH_SIZE, len(data.val)), [student]) if data.val else None
    loaders = [each for each in (training, validation) if each]
    check_loaders(loaders, Machine.now(), opened_before=_OPENED_BEFORE_VALIDATION)


def check_disk_room(config: TrainConfig, learner: Learner, checkpoints: Checkpoints) -> None:
    """Raise OutputError where the disk has too little for the checkpoints that are kept and one that is being written.

    A lower bound is compared: an optimizer is taken to keep one number for each weight, and many keep two.
    """
    weights = _num_bytes(learner.student)
    least = 2 * weights + (_num_bytes(learner.kept) if config.optimizer.ema_decay else 0)
    count, held = config.run.keep_checkpoints + 1, sum(path.stat().st_size for path in checkpoints.paths())
    free = shutil.disk_usage(_existing(checkpoints.folder)).free
    lacking = count * least - held
    if lacking > free:
        raise OutputError(
            f"{checkpoints.folder}: {bytes_text(free)} are free, and {count} checkpoints of {bytes_text(least)} or "
            f"more want {bytes_text(lacking)} more, as one is written before the oldest is removed: make room, keep "
            "fewer (--keep_checkpoints 1), or name a folder on a larger disk with --output"
        )


def _loaders(workers: int, held: int, images: int, outputs: Sequence[Preprocessing]) -> Loaders:
    pixels = sum(math.prod(output.input_size) for output in outputs)
    return Loaders(processes=workers, held=held, block_bytes=images * pixels * 3, option="--workers")


def _num_bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def _existing(folder: Path) -> Path:
    return next(each for each in [folder.absolute(), *folder.absolute().parents] if each.exists())
