"""The epochs of a run: steps, checkpoints when they are due, and a validation at the end."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object

from pld.evaluation import stored_signals
from pld.images import Source
from pld.process.stopping import Stopping
from pld.progress import progress
from train_student.config import TrainConfig
from train_student.data.batches import Batch
from train_student.data.training_data import TrainingData
from train_student.loop.checkpoint import Checkpoints
from train_student.loop.epoch_lines import Circumstances, epoch_lines
from train_student.loop.evaluate import evaluate
from train_student.loop.guards import LossGuard
from train_student.loop.learner import Learner
from train_student.loop.meter import Meter
from train_student.loop.metrics_file import MetricsFile
from train_student.loop.resume import Progress
from train_student.loop.run_batches import run_batches
from train_student.loop.stop_vote import StopVote
from train_student.model.student import export, share_buffers

_LOG = logging.getLogger(__name__)


class Trainer:
    """Trains a learner on data and leaves checkpoints, metrics and the model in a folder.

    Attributes:
        data: what is trained on.
        progress: how far the run has come.
        checkpoints: those in the folder.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        config: TrainConfig,
        data: TrainingData,
        learner: Learner,
        steps_per_epoch: int,
        folder: Path,
        stopping: Stopping,
        check_owner: Callable[[], object] | None = None,
        push: Callable[[], object] | None = None,
    ) -> None:
        """A trainer at the beginning of a run.

        Args:
            accelerator: of this process.
            config: the run's.
            data: what is trained on.
            learner: what is trained.
            steps_per_epoch: see `count_steps`.
            folder: the run's.
            stopping: asks this process to stop.
            check_owner: called before anything is saved; raises if the folder has become another command's.
            push: called after a checkpoint or an epoch's metrics were written, to keep them elsewhere, too.
        """
        self.data, self._learner, self._times = data, learner, learner.times
        self._accelerator, self._config, self._folder = accelerator, config, folder
        self.progress = Progress(
            steps_per_epoch=steps_per_epoch,
            batch_size=config.optimizer.batch_size,
            meter=Meter(accelerator.device),
        )
        options = config.run
        self.checkpoints = Checkpoints(
            folder / "checkpoints",
            options.keep_checkpoints,
            minutes=options.checkpoint_minutes,
            steps=options.checkpoint_steps,
        )
        self._metrics = MetricsFile(folder)
        self._stopping, self._vote = stopping, StopVote(accelerator, stopping, self._save)
        self._check_owner, self._push = check_owner, push
        self._guard = LossGuard(folder, accelerator.process_index, data.train.key)
        self._val_teacher = stored_signals(data.val_store, data.val) if data.val and data.val_store else None
        self._skips_bad_images = config.data.on_bad_image == "skip"

    def restore(self) -> Path | None:
        """Go on from the last checkpoint; returns its path, None where there is none.

        Raises:
            ConfigError: there are some and none can be read, or the last one is of other data or another model.
        """
        latest = self.checkpoints.load_latest()
        if latest is None:
            return None
        path, state = latest
        self.data = self.progress.restore(path, state, self.data, self._learner, self._accelerator.device)
        self.checkpoints.mark(self.progress.steps_done)
        return path

    def train(self) -> None:
        """Train to the end; if the run is asked to stop, save a checkpoint and raise Stopped."""
        now, epochs = self.progress, self._config.optimizer.epochs
        self.checkpoints.mark(self.checkpoints.last_step)
        self._began = time.monotonic() - now.seconds
        total = epochs * now.steps_per_epoch * now.batch_size
        bar = progress(total, self._config.run.output, show=self._accelerator.is_main_process)
        bar.update(now.steps_done * now.batch_size)
        with run_batches(self._accelerator, self._config, self.data, self._learner, now) as batches, bar:
            while now.epoch < epochs:
                while now.step < now.steps_per_epoch:
                    self._step(batches)
                    bar.update(now.batch_size)
                    bar.set_postfix(wait=f"{100 * now.meter.wait_share:.0f}%", refresh=False)
                    now.seconds = time.monotonic() - self._began
                    self._stopping.defer()  # before the first step there was nothing to save
                    if self.checkpoints.is_due(now.steps_done):
                        self._save()
                    self._vote.look(f" after step {now.steps_done}")
                self._end_epoch()
                now.meter = Meter(self._accelerator.device)  # whose clock starts after the validation

    def _step(self, batches: Iterator[Batch]) -> None:
        """One step of the optimizer, counted."""
        now = self.progress
        with self._times.counting("waiting"):
            micro = [now.meter.wait_for(batches) for _ in range(self._config.optimizer.accumulate)]
        if now.step == 0:
            is_ready = functools.partial(self._learner.signal.is_ready, tuple(micro[0].request.view_indexes))
            self._wait_for_views(is_ready)
        losses = self._learner.step(micro, now.steps_done)
        self._prefetch_next_views()  # after the loaders were started
        now.step += 1
        for batch, loss in zip(micro, losses, strict=True):
            self._guard.add(now.steps_done, batch.request, loss.total)
        now.meter.add(losses)
        if self._skips_bad_images:
            bad_rows = [row for batch in micro for row in batch.bad_rows]
            now.meter.add_bad_images(self._accelerator, list(map(self.data.train.key, bad_rows)))

    def _wait_for_views(self, is_ready: Callable[[float], bool]) -> None:
        with self._times.counting("joining"):
            self._vote.wait_until(is_ready, f" after step {self.progress.steps_done}, while it loaded a view")

    def _prefetch_next_views(self) -> None:
        """Load the next epoch's logits while this one trains."""
        following = self.progress.epoch + 1
        views = self.data.views_of_epoch(following)
        if following < self._config.optimizer.epochs and {*views} != {*self.data.views_of_epoch(following - 1)}:
            self._learner.signal.prepare(views)

    def _end_epoch(self) -> None:
        """Validate where that is due, log the epoch and export the student."""
        now, config, accelerator, learner = self.progress, self._config, self._accelerator, self._learner
        self._guard.look()
        figures = now.meter.figures(accelerator, now.batch_size)
        bad_keys: list[str] = []
        if self._skips_bad_images:
            figures["bad_images"] = int(now.meter.bad_images.item())
            bad_keys = gather_object(now.meter.bad_keys)
        share_buffers(learner.kept, accelerator.num_processes)
        is_last = now.epoch + 1 == config.optimizer.epochs
        val = self.data.val if is_last or (now.epoch + 1) % config.validation.eval_every == 0 else None
        if val is not None:
            self._save()  # whatever stops the validation, the epoch is trained
            accelerator.wait_for_everyone()  # a process that stops ends the one that saves, too
        self._wait_for_views(learner.signal.is_settled)  # before loaders are started
        now.epoch, now.step, now.meter = now.epoch + 1, 0, Meter(accelerator.device)
        if val is not None:
            with self._times.counting("validating"):
                figures |= self._validate(val)
        if accelerator.is_main_process:
            if self._check_owner:
                self._check_owner()  # since the last checkpoint
            with self._times.counting("saving"):
                export(learner.kept, learner.preprocessing, self.data.class_names, self._folder / "model")
        figures |= self._times.end_epoch()
        accelerator.log(figures, step=now.epoch)
        if not accelerator.is_main_process:
            return
        now.seconds = time.monotonic() - self._began
        self._metrics.append(epoch=now.epoch, lr=learner.lr, seconds=round(now.seconds, 3), **figures)
        if self._push:
            with self._times.counting("saving"):
                self._push()
        found = Circumstances.of(config, accelerator, self.data.policy)
        run_seconds = now.seconds if is_last else None
        for line in epoch_lines(figures, bad_keys, now.epoch, learner.lr, run_seconds, found):
            self._print(line)

    def _validate(self, val: Source) -> dict[str, float | int]:
        config, vote = self._config.data, StopVote(self._accelerator, self._stopping, self._save)
        return evaluate(
            self._accelerator,
            self._learner.kept,
            val,
            self._learner.preprocessing,
            teacher=self._val_teacher,
            workers=config.workers,
            on_bad_image=config.on_bad_image,
            on_batch=functools.partial(vote.look, f" in the validation after epoch {self.progress.epoch}"),
        )

    def _save(self) -> None:
        """A checkpoint, unless this step has one, by the main process alone: all processes hold the same."""
        step = self.progress.steps_done
        if self._accelerator.is_main_process and self.checkpoints.last_step != step:
            self._guard.look()  # no checkpoint after a loss that is not finite
            with self._times.counting("saving"), self._stopping.saving():
                if self._check_owner:
                    self._check_owner()
                self.checkpoints.save(step, self.progress.state(self.data, self._learner, self._config.run.seed))
                if self._push:
                    self._push()
        self.checkpoints.mark(step)

    def _print(self, line: str) -> None:
        if self._accelerator.is_main_process:
            _LOG.info("%s: %s", self._config.run.output, line)
