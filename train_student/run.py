"""One run: its parts, its epochs, its checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed

from pld.errors import ConfigError
from pld.images import fetched_ahead
from pld.loader_processes import in_flight
from pld.progress import progress
from pld.teachers import build_teacher
from train_student.checkpoint import Checkpoints
from train_student.config import TrainConfig
from train_student.datasets import TrainingData, open_training_data
from train_student.describe import facts, flat, notes
from train_student.evaluate import VAL_SHARE, evaluate
from train_student.guards import PREEMPTED, LossGuard, Preemption
from train_student.input import WorkItem, epoch_items, view_dataset
from train_student.learner import Learner
from train_student.loading import loading
from train_student.meter import Meter, advice
from train_student.resume import Position
from train_student.run_folder import RunFolder
from train_student.student import build_student, export, share_buffers, student_preprocessing
from train_student.teacher_signal import LiveTeacher, NoTeacher, StoredTeacher, TeacherSignal, check_supports
from train_student.view_tables import ViewTables, shared_folder


class Run:
    """One run: what it reads, what it changes, and where it stands."""

    def __init__(self, accelerator: Accelerator, config: TrainConfig, folder: RunFolder) -> None:
        self.accelerator, self.config, self.folder = accelerator, config, folder
        self.data = open_training_data(config, accelerator.device)
        self.steps_per_epoch = steps_per_epoch(config, len(self.data.train), accelerator.num_processes)
        self.signal = _teacher_signal(config, self.data, accelerator)
        self.val_teacher = StoredTeacher(self.data.val_store, self.data.val) if self.data.val_store else None
        self.preprocessing = student_preprocessing(config)
        set_seed(config.seed)
        student = build_student(config, self.data.num_classes)
        self.learner = Learner(accelerator, config, student, self.signal, self.preprocessing, self.steps_per_epoch)
        self.checkpoints = Checkpoints(folder.path / "checkpoints", config.keep_checkpoints)
        self.guard = LossGuard(folder.path, accelerator.process_index, self.data.train.key)
        self.meter = Meter(accelerator.device)
        self.epoch, self.step = 0, 0
        self.seconds = 0.0

    def begin(self, *, go_on: bool) -> None:
        """Make the run's folder, or go on from its last checkpoint."""
        latest = self.checkpoints.load_latest() if go_on else None
        if latest:
            self._restore(*latest)
        if self.accelerator.is_main_process:
            if not go_on:
                parameters = sum(p.numel() for p in self.learner.student.parameters())
                world = self.accelerator.num_processes
                self.folder.create(self.config, facts(self.config, self.data, self.signal, world, parameters))
            self.folder.drop_metrics_after(self.epoch)
            print(notes(self.config, self.data, self.signal, self.accelerator.num_processes), flush=True)
            if self.data.pixel_warning:
                print(f"warning: {self.data.pixel_warning}", file=sys.stderr)
            if latest:
                where = f"epoch {self.epoch + 1}, step {self.step + 1}"
                print(f"{self.config.output}: goes on from {latest[0].name}, {where}", flush=True)
        if self.config.tracker != "none":
            self.accelerator.init_trackers("pld-distill", config=flat(self.config))

    def epochs(self, preemption: Preemption) -> None:
        """Train to the end, or until the machine is asked for."""
        config, accelerator = self.config, self.accelerator
        dataset = view_dataset(
            self.data.train, self.data.policy, [self.preprocessing, *self.signal.preprocessings], self.data.gpu
        )
        start = saved = time.monotonic()
        before = self.seconds
        total = config.epochs * self.steps_per_epoch * config.batch_size
        bar = progress(total, config.output, show=accelerator.is_main_process)
        bar.update((self.epoch * self.steps_per_epoch + self.step) * config.batch_size)
        with (
            contextlib.closing(self._items()) as items,
            loading(dataset, items, workers=config.workers, held=config.accumulate) as batches,
            bar,
        ):
            while self.epoch < config.epochs:
                while self.step < self.steps_per_epoch:
                    done = self.epoch * self.steps_per_epoch + self.step
                    micro = [self.meter.wait_for(batches) for _ in range(config.accumulate)]
                    losses = self.learner.step(micro, done)
                    self._prepare_next_view()  # after the loaders were started
                    for batch, loss in zip(micro, losses, strict=True):
                        self.guard.add(done + 1, batch.item, loss)
                    self.meter.add(sum(losses[1:], losses[0]) / len(losses))
                    self.step += 1
                    bar.update(config.batch_size)
                    bar.set_postfix(wait=f"{100 * self.meter.wait_share:.0f}%", refresh=False)
                    self.seconds = before + time.monotonic() - start
                    stop = preemption.requested(accelerator, done + 1)
                    if stop or self._checkpoint_is_due(done + 1, time.monotonic() - saved):
                        self._save(done + 1)
                        saved = time.monotonic()
                    if stop:
                        if accelerator.is_main_process:
                            print(f"{config.output}: stopped by SIGTERM after step {done + 1}; --resume auto goes on")
                        raise SystemExit(PREEMPTED)
                self._end_epoch()

    def _prepare_next_view(self) -> None:
        """Load the next epoch's logits while this one trains."""
        this, following = (self.data.view_of_epoch(epoch) for epoch in (self.epoch, self.epoch + 1))
        if isinstance(self.signal, StoredTeacher) and self.epoch + 1 < self.config.epochs and following != this:
            self.signal.prepare(following)

    def _end_epoch(self) -> None:
        config, accelerator = self.config, self.accelerator
        self.guard.look()
        figures = self.meter.figures(accelerator, config.batch_size)
        self.epoch, self.step, self.meter = self.epoch + 1, 0, Meter(accelerator.device)
        share_buffers(self.learner.kept, accelerator.num_processes)
        last = self.epoch == config.epochs
        if isinstance(self.signal, StoredTeacher):
            self.signal.settle()  # before loaders are started
        if last or self.epoch % config.eval_every == 0:
            figures |= evaluate(
                accelerator,
                self.learner.kept,
                self.data.val,
                self.preprocessing,
                teacher=self.val_teacher,
                workers=config.workers,
            )
        accelerator.log(figures, step=self.epoch)
        if not accelerator.is_main_process:
            return
        export(self.learner.kept, self.preprocessing, self.data.class_names, self.folder.path / "model")
        self.folder.log(epoch=self.epoch, lr=self.learner.lr, seconds=round(self.seconds, 3), **figures)
        if advised := advice(figures["wait_share"], config.workers):
            print(f"{config.output}: {advised}", flush=True)
        if last:
            found = f"top-1 {figures['top1']:.2f} %, top-5 {figures['top5']:.2f} %"
            print(f"{config.output}: {found}, {self.seconds:.0f} s", flush=True)

    def _checkpoint_is_due(self, step: int, seconds: float) -> bool:
        if self.config.checkpoint_steps:
            return step % self.config.checkpoint_steps == 0
        return seconds >= 60 * self.config.checkpoint_minutes

    def _save(self, steps_done: int) -> None:
        """A checkpoint, by the main process alone: all processes hold the same."""
        if not self.accelerator.is_main_process:
            return
        self.guard.look()
        position = Position(
            seed=self.config.seed,
            epoch=self.epoch,
            samples_seen=self.step * self.config.batch_size,
            num_views=self.data.num_views,
            fingerprint=self.data.fingerprint,
        )
        meter = {"losses": self.meter.losses.item(), "steps": self.meter.steps}
        state = {"position": dataclasses.asdict(position), "meter": meter, "seconds": self.seconds}
        self.checkpoints.save(steps_done, {**state, "learner": self.learner.state()})

    def _restore(self, path: Path, state: dict[str, Any]) -> None:
        position = Position(**state["position"])
        position.check_same_data(self.data.fingerprint, path)
        self.data = dataclasses.replace(self.data, num_views=position.num_views)
        self.epoch, self.step = position.epoch, position.samples_seen // self.config.batch_size
        self.meter = Meter(self.accelerator.device, **state["meter"])
        self.seconds = state["seconds"]
        try:
            self.learner.load_state(state["learner"], self.epoch * self.steps_per_epoch + self.step)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ConfigError(f"{path}: is of another model or optimizer: {error}") from error

    def _items(self) -> Generator[WorkItem, None, None]:
        """One stream over all epochs to come, so that workers never stand idle between two of them."""
        passes = [
            functools.partial(
                epoch_items,
                self.data.train,
                seed=self.config.seed,
                epoch=epoch,
                view_index=self.data.view_of_epoch(epoch),
                batch_size=self.config.batch_size,
                streams=self.config.streams,
                rank=self.accelerator.process_index,
                world=self.accelerator.num_processes,
                micro_batches=self.config.accumulate,
                first_batch=self.step if epoch == self.epoch else 0,
            )
            for epoch in range(self.epoch, self.config.epochs)
        ]
        ahead = in_flight(self.config.workers)
        return fetched_ahead(self.data.train, passes, lambda item: item.rows, in_flight=ahead, share=1 - VAL_SHARE)


def steps_per_epoch(config: TrainConfig, num_samples: int, world: int) -> int:
    """Global batches in an epoch; raises ConfigError where there is none, or the processes cannot share them."""
    if config.batch_size % (world * config.accumulate):
        raise ConfigError(
            f"--batch_size {config.batch_size}: {world} processes of {config.accumulate} micro-batches do not divide it"
        )
    if num_samples < config.batch_size:
        raise ConfigError(f"--batch_size {config.batch_size}: there are {num_samples} images, less than one batch")
    if config.streams % world:
        raise ConfigError(f"--streams {config.streams}: wanted a multiple of the {world} processes")
    return num_samples // config.batch_size


def _teacher_signal(config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> TeacherSignal:
    required = config.loss_function.required_signal
    if not required.needs_teacher:
        return NoTeacher()
    if config.online_teacher:
        assert config.teacher is not None  # TrainConfig checks
        teacher = build_teacher(
            config.teacher, config.weights, precision=config.autocast, device=str(accelerator.device)
        )
        if teacher.num_classes != data.num_classes:
            raise ConfigError(f"--teacher {config.teacher}: {teacher.num_classes} classes, wanted {data.num_classes}")
        return LiveTeacher(teacher)
    assert data.store is not None  # likewise
    approximate = check_supports(data.store, required, approximate=config.approximate_teacher)
    tables = ViewTables(data.store, shared_folder(accelerator), writes=accelerator.is_local_main_process)
    return StoredTeacher(data.store, data.train, approximate=approximate, tables=tables)
