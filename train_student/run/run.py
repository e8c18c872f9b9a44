"""One run: its parts, its epochs, its checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed

from pld.classes.names import read_class_map
from pld.errors import ConfigError
from pld.images import Source
from pld.join.match import map_classes
from pld.loading import ViewRequest, in_flight, prefetch_shards, view_decoder
from pld.progress import progress
from pld.teachers import build_teacher
from train_student.config import TrainConfig
from train_student.data.batches import Batch, epoch_items, load_batches
from train_student.data.teacher_signal import LiveTeacher, NoTeacher, StoredTeacher, TeacherSignal, check_supports
from train_student.data.training_data import TrainingData, open_training_data
from train_student.data.view_tables import ViewTables, shared_folder
from train_student.loop.checkpoint import Checkpoints
from train_student.loop.evaluate import VAL_SHARE, evaluate
from train_student.loop.guards import PREEMPTED, LossGuard, Preemption
from train_student.loop.learner import Learner
from train_student.loop.meter import Meter, advice
from train_student.model.student import build_student, export, share_buffers, student_preprocessing
from train_student.run.describe import facts, flat, notes
from train_student.run.resume import Position
from train_student.run.run_folder import RunFolder


class Run:
    """One run: what it reads, what it changes, and where it stands."""

    def __init__(self, accelerator: Accelerator, config: TrainConfig, folder: RunFolder) -> None:
        self.accelerator, self.config, self.folder = accelerator, config, folder
        self.data = open_training_data(config, accelerator.device)
        self.steps_per_epoch = steps_per_epoch(config, len(self.data.train), accelerator.num_processes)
        self.signal = _teacher_signal(config, self.data, accelerator)
        self.val_teacher = _val_teacher(self.data)
        self.preprocessing = student_preprocessing(config)
        set_seed(config.seed)
        student = build_student(config, self.data.num_classes)
        self.learner = Learner(accelerator, config, student, self.signal, self.preprocessing, self.steps_per_epoch)
        self.checkpoints = Checkpoints(folder.path / "checkpoints", config.keep_checkpoints)
        self.guard = LossGuard(folder.path, accelerator.process_index, self.data.train.key)
        self.skips_bad_images = config.on_bad_image == "skip"
        self.meter = Meter(accelerator.device)
        self.bad_keys: list[str] = []  # this process's, of this epoch, since the last start
        self.epoch, self.step = 0, 0
        self.seconds = 0.0
        self.saved_step, self.saved_at = 0, time.monotonic()

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
                trained = self.step == self.steps_per_epoch
                where = f"epoch {self.epoch + 1}, " + ("which is trained" if trained else f"step {self.step + 1}")
                print(f"{self.config.output}: goes on from {latest[0].name}, {where}", flush=True)
        if self.config.tracker != "none":
            self.accelerator.init_trackers("pld-distill", config=flat(self.config))

    def epochs(self, preemption: Preemption) -> None:
        """Train to the end, or until the machine is asked for."""
        config, accelerator = self.config, self.accelerator
        decoder = view_decoder(
            self.data.train,
            self.data.policy,
            [self.preprocessing, *self.signal.preprocessings],
            gpu=self.data.gpu,
            skip_bad_images=self.skips_bad_images,
        )
        start = self.saved_at = time.monotonic()
        before = self.seconds
        total = config.epochs * self.steps_per_epoch * config.batch_size
        bar = progress(total, config.output, show=accelerator.is_main_process)
        bar.update(self.steps_done * config.batch_size)
        with (
            contextlib.closing(self._items()) as items,
            load_batches(self.data.train, decoder, items, workers=config.workers, held=config.accumulate) as batches,
            bar,
        ):
            while self.epoch < config.epochs:
                while self.step < self.steps_per_epoch:
                    micro = [self.meter.wait_for(batches) for _ in range(config.accumulate)]
                    losses = self.learner.step(micro, self.steps_done)
                    self._prepare_next_view()  # after the loaders were started
                    self.step += 1
                    for batch, loss in zip(micro, losses, strict=True):
                        self.guard.add(self.steps_done, batch.request, loss)
                    self.meter.add(sum(losses[1:], losses[0]) / len(losses))
                    self._count_bad_images(micro)
                    bar.update(config.batch_size)
                    bar.set_postfix(wait=f"{100 * self.meter.wait_share:.0f}%", refresh=False)
                    self.seconds = before + time.monotonic() - start
                    stop = preemption.requested(accelerator, self.steps_done)
                    if stop or self._checkpoint_is_due:
                        self._save()
                    if stop:
                        if accelerator.is_main_process:
                            done = f"stopped by SIGTERM after step {self.steps_done}"
                            print(f"{config.output}: {done}; --resume auto goes on")
                        raise SystemExit(PREEMPTED)
                self._end_epoch()

    @property
    def steps_done(self) -> int:
        """Optimizer steps so far, in the whole run."""
        return self.epoch * self.steps_per_epoch + self.step

    def _prepare_next_view(self) -> None:
        """Load the next epoch's logits while this one trains."""
        this, following = (self.data.view_of_epoch(epoch) for epoch in (self.epoch, self.epoch + 1))
        if isinstance(self.signal, StoredTeacher) and self.epoch + 1 < self.config.epochs and following != this:
            self.signal.prepare(following)

    def _count_bad_images(self, batches: Sequence[Batch]) -> None:
        if self.skips_bad_images:
            bad_rows = [row for batch in batches for row in batch.bad_rows]
            self.bad_keys += map(self.data.train.key, bad_rows)
            self.meter.add_bad_images(self.accelerator, len(bad_rows))

    def _end_epoch(self) -> None:
        """Validate where that is due, log the epoch and export the student."""
        config, accelerator = self.config, self.accelerator
        self.guard.look()
        figures = self.meter.figures(accelerator, config.batch_size)
        bad_keys: list[str] = []
        if self.skips_bad_images:
            figures["bad_images"] = int(self.meter.bad_images.item())
            bad_keys = gather_object(self.bad_keys)
        share_buffers(self.learner.kept, accelerator.num_processes)
        last = self.epoch + 1 == config.epochs
        val = self.data.val if last or (self.epoch + 1) % config.eval_every == 0 else None
        if isinstance(self.signal, StoredTeacher):
            self.signal.settle()  # before loaders are started
        if val is not None:
            self._save()  # whatever stops the validation, the epoch is trained
            accelerator.wait_for_everyone()  # a process that stops ends the one that saves, too
        self.epoch, self.step, self.meter, self.bad_keys = self.epoch + 1, 0, Meter(accelerator.device), []
        if val is not None:
            figures |= self._validate(val)
        accelerator.log(figures, step=self.epoch)
        if not accelerator.is_main_process:
            return
        export(self.learner.kept, self.preprocessing, self.data.class_names, self.folder.path / "model")
        self.folder.log(epoch=self.epoch, lr=self.learner.lr, seconds=round(self.seconds, 3), **figures)
        self._tell(figures, bad_keys)

    def _validate(self, val: Source) -> dict[str, float | int]:
        return evaluate(
            self.accelerator,
            self.learner.kept,
            val,
            self.preprocessing,
            teacher=self.val_teacher,
            workers=self.config.workers,
            on_bad_image=self.config.on_bad_image,
        )

    def _tell(self, figures: dict[str, Any], bad_keys: Sequence[str]) -> None:
        """Print what the user should know of the epoch that ended."""
        told = [advice(figures["wait_share"], self.config.workers)]
        if num := figures.get("bad_images"):
            named = f" ({', '.join(bad_keys[:3])}{', ...' * (num > 3)})" if bad_keys else ""
            told.append(f"epoch {self.epoch}: others took the places of images that cannot be decoded: {num}{named}")
        if num := figures.get("val_bad_images"):
            told.append(f"epoch {self.epoch}: validation images left out, as they cannot be decoded: {num}")
        if self.epoch == self.config.epochs:
            loss = f"loss {figures['loss']:.4f}, not validated"
            found = f"top-1 {figures['top1']:.2f} %, top-5 {figures['top5']:.2f} %" if "top1" in figures else loss
            told.append(f"{found}, {self.seconds:.0f} s")
        for line in filter(None, told):
            print(f"{self.config.output}: {line}", flush=True)

    @property
    def _checkpoint_is_due(self) -> bool:
        if self.config.checkpoint_steps:
            return self.steps_done % self.config.checkpoint_steps == 0
        return time.monotonic() - self.saved_at >= 60 * self.config.checkpoint_minutes

    def _save(self) -> None:
        """A checkpoint, unless this step has one, by the main process alone: all processes hold the same."""
        if self.accelerator.is_main_process and self.saved_step != self.steps_done:
            self._write_checkpoint()
        self.saved_step, self.saved_at = self.steps_done, time.monotonic()

    def _write_checkpoint(self) -> None:
        self.guard.look()
        position = Position(
            seed=self.config.seed,
            epoch=self.epoch,
            samples_seen=self.step * self.config.batch_size,
            num_views=self.data.num_views,
            fingerprint=self.data.fingerprint,
            data_digest=self.data.digest,
        )
        state = {"position": dataclasses.asdict(position), "meter": self.meter.state(), "seconds": self.seconds}
        self.checkpoints.save(self.steps_done, {**state, "learner": self.learner.state()})

    def _restore(self, path: Path, state: dict[str, Any]) -> None:
        position = Position(**state["position"])
        position.check_same_data(self.data.fingerprint, self.data.digest, path)
        self.data = dataclasses.replace(self.data, num_views=position.num_views)
        self.epoch, self.step = position.epoch, position.samples_seen // self.config.batch_size
        self.meter = Meter(self.accelerator.device, **state["meter"])
        self.seconds = state["seconds"]
        self.saved_step = self.steps_done
        try:
            self.learner.load_state(state["learner"], self.steps_done)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ConfigError(f"{path}: is of another model or optimizer: {error}") from error

    def _items(self) -> Generator[ViewRequest, None, None]:
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
        return prefetch_shards(self.data.train, passes, lambda item: item.rows, in_flight=ahead, share=1 - VAL_SHARE)


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


def _val_teacher(data: TrainingData) -> StoredTeacher | None:
    if data.val is None or data.val_store is None:
        return None
    return StoredTeacher(data.val_store, data.val)


def _teacher_signal(config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> TeacherSignal:
    required = config.loss_function.required_signal
    if not required.needs_teacher:
        return NoTeacher()
    if config.online_teacher:
        assert config.teacher is not None  # TrainConfig checks
        teacher = build_teacher(
            config.teacher, config.weights, precision=config.autocast, device=str(accelerator.device)
        )
        class_map = read_class_map(config.class_map)
        teacher, note = map_classes(teacher, data.classes, class_map)
        if note and accelerator.is_main_process:
            print(f"warning: {note}", file=sys.stderr)
        return LiveTeacher(teacher)
    assert data.store is not None  # likewise
    approximate = check_supports(data.store, required, approximate=config.approximate_teacher)
    tables = ViewTables(data.store, shared_folder(accelerator), writes=accelerator.is_local_main_process)
    return StoredTeacher(data.store, data.train, approximate=approximate, tables=tables)
