"""The student in training: its steps, optimizer, schedule, and the average of its weights."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import nn

from pld.randomness import philox
from pld.signals import MixedLabels, TopK
from train_student.config import TrainConfig
from train_student.data.batches import Batch
from train_student.data.teacher_signal import TeacherSignal
from train_student.loop.epoch_times import EpochTimes
from train_student.model.optimizer import build_optimizer, build_schedule
from train_student.model.student import Student


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BatchLoss:
    """A micro-batch's loss, on the device.

    Attributes:
        total: the loss.
        of_labels: what the labels contribute to it; None where they and a teacher are not told apart.
    """

    total: torch.Tensor
    of_labels: torch.Tensor | None


class Learner:
    """A student in training.

    Attributes:
        student: the model itself, without what accelerate wraps around it.
        signal: its teacher's.
        preprocessing: of its images.
        times: where the time of an epoch goes; it counts its own part there.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        config: TrainConfig,
        signal: TeacherSignal,
        student: Student,
        *,
        steps_per_epoch: int,
    ) -> None:
        options = config.optimizer
        self.student, self.preprocessing = student.model, student.preprocessing
        self.signal, self.times = signal, EpochTimes()
        self._accelerator, self._loss = accelerator, config.loss.build()
        self._clip_grad, self._seed = options.clip_grad, config.run.seed
        optimizer = build_optimizer(options, student.model)
        self._schedule = build_schedule(options, optimizer, steps_per_epoch)
        # Neither loader nor schedule is prepared: accelerate would split the one again and step the other twice.
        self._model, self._optimizer = accelerator.prepare(student.model, optimizer)
        self._average = ModelEmaV3(student.model, decay=options.ema_decay) if options.ema_decay else None

    @property
    def kept(self) -> nn.Module:
        """The model to validate and export: the weight average (EMA) if there is one, else the student."""
        return self._average.module if self._average else self.student

    @property
    def lr(self) -> float:
        """The learning rate of the first parameter group."""
        return float(self._optimizer.param_groups[0]["lr"])

    def step(self, batches: Sequence[Batch], steps_done: int) -> list[BatchLoss]:
        """One optimizer step over this process's micro-batches.

        Args:
            batches: the micro-batches; their gradients are averaged.
            steps_done: optimizer steps before this one, in the whole run.

        Returns:
            Each micro-batch's loss, detached.
        """
        accelerator = self._accelerator
        # Dropout's randomness belongs to the step and not to what came before: a resumed run draws the same.
        torch.manual_seed(_step_seed(self._seed, steps_done, accelerator.process_index))
        losses = []
        for number, batch in enumerate(batches, start=1):
            # Gradients are exchanged once, with the last micro-batch.
            last = number == len(batches)
            with contextlib.nullcontext() if last else accelerator.no_sync(self._model):
                loss = self._batch_loss(batch)
                accelerator.backward(loss.total / len(batches))
            losses.append(dataclasses.replace(loss, total=loss.total.detach()))
        if self._clip_grad:
            accelerator.clip_grad_norm_(self._model.parameters(), self._clip_grad)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._schedule.step_update(steps_done + 1)
        if self._average:
            self._average.update(self.student, step=steps_done + 1)
        return losses

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, for a checkpoint."""
        return {
            "student": self.student.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.module.state_dict() if self._average else None,
            "scaler": self._accelerator.scaler.state_dict() if self._accelerator.scaler else None,
        }

    def load_state(self, state: dict[str, Any], steps_done: int) -> None:
        """Go on from `state()`; raises RuntimeError or ValueError where it is another model's or optimizer's."""
        self.student.load_state_dict(state["student"])
        self._optimizer.load_state_dict(state["optimizer"])
        _lay_out_as_weights(self._optimizer.state)
        if self._average:
            self._average.module.load_state_dict(state["average"])
        if self._accelerator.scaler:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self._schedule.step_update(steps_done)

    def _batch_loss(self, batch: Batch) -> BatchLoss:
        device = self._accelerator.device
        with self.times.counting(self.signal.part):
            teacher = self.signal(batch, device)
        with self.times.counting("moving"):
            images = batch.images[0].to(device, non_blocking=True)
            labels = _loss_labels(batch, teacher)
            labels = None if labels is None else labels.to(device, non_blocking=True)
        total, of_labels = self._loss.in_parts(self._model(self.preprocessing.normalize(images)), teacher, labels)
        return BatchLoss(total=total, of_labels=of_labels)


def _loss_labels(batch: Batch, teacher: TopK | torch.Tensor | None) -> torch.Tensor | MixedLabels | None:
    """The batch's labels; with a TopK its own tensor, which the loss need not compare: that would wait for the device.

    Those of a mixed batch may then be on two devices.
    """
    if not isinstance(teacher, TopK):
        return batch.labels
    if isinstance(batch.labels, MixedLabels) and teacher.labels is not None:
        return dataclasses.replace(batch.labels, labels=teacher.labels)
    return teacher.labels


def _lay_out_as_weights(state: Mapping[torch.Tensor, dict[str, Any]]) -> None:
    """Give an optimizer's tensors their weights' memory format, in whose order norms sum them, as lamb's do."""
    for weight, values in state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                values[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(philox(f"{seed}/step/{step}/{rank}").random_raw(1)[0] >> np.uint64(1))
