"""Train on a run's real images for a minute and measure it; nothing of it is kept."""

from __future__ import annotations

import dataclasses
import itertools
import math
import resource
import time
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from pld.report.quantities import bytes_text, duration_text, peak_bytes, peak_gpu_bytes
from train_student.config import TrainConfig
from train_student.data.batches import Batch
from train_student.data.teacher_signal import open_teacher_signal
from train_student.data.training_data import TrainingData
from train_student.loop.learner import Learner
from train_student.loop.meter import Meter
from train_student.loop.resume import Progress
from train_student.loop.run_batches import count_steps, run_batches
from train_student.model.student import build_student
from train_student.run.init_from import open_initial_weights

MEASURED_SECONDS = 60.0
# The first steps choose kernels and fill the loaders' buffers.
_WARM_STEPS = 2
_CPU_VIEWS = 16  # a whole batch would take minutes there


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """What was measured: steps of `batch_size` views over all processes, after `num_warm` others."""

    num_steps: int
    batch_size: int
    seconds: float
    num_warm: int


def measured_run(config: TrainConfig, accelerator: Accelerator, data: TrainingData) -> list[tuple[str, str]]:
    """Load images and logits and train on them as configured, on a CPU in small batches; returns rows for the plan.

    Raises:
        PLDError: something that would stop the run as well.
    """
    accelerator.free_memory()  # whatever was trained before
    if accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(accelerator.device)
    world, options = accelerator.num_processes, config.optimizer
    share, views = options.batch_size // world // options.accumulate, options.views_per_image
    share = min(share, max(views, _CPU_VIEWS // views * views)) if accelerator.device.type == "cpu" else share
    batch_size = share * world * options.accumulate
    learner = Learner(
        accelerator,
        config,
        open_teacher_signal(config, data, accelerator),
        build_student(
            config.model,
            data.classes,
            crop_fraction=config.validation.crop_fraction,
            weights=open_initial_weights(config.model),
        ),
        steps_per_epoch=count_steps(options, config.data.streams, len(data.train), world),
    )
    available = len(data.train) * views // batch_size
    start = Progress(steps_per_epoch=available, batch_size=batch_size, meter=Meter(accelerator.device))
    with run_batches(accelerator, config, data, learner, start) as batches:
        pace = _measure(accelerator, learner, batches, options.accumulate, available, batch_size)
    return list(_rows(config, accelerator, data, pace))


def _measure(
    accelerator: Accelerator, learner: Learner, batches: Iterator[Batch], accumulate: int, available: int, size: int
) -> Pace:
    """Warm up, time one step, and then as many as fit the minute, the same number in all processes."""
    num_warm = min(_WARM_STEPS, available - 1)
    done = itertools.count()

    def train(num_steps: int) -> float:
        start = time.monotonic()
        for _ in range(num_steps):
            losses = learner.step(list(itertools.islice(batches, accumulate)), next(done))
            losses[-1].total.item()  # waits for the device
        return time.monotonic() - start

    train(num_warm)
    seconds = train(1)
    more = [min(available - num_warm - 1, int(MEASURED_SECONDS / seconds))]
    broadcast_object_list(more)
    seconds += train(more[0])
    return Pace(num_steps=1 + more[0], batch_size=size, seconds=seconds, num_warm=num_warm)


def _rows(config: TrainConfig, accelerator: Accelerator, data: TrainingData, pace: Pace) -> Iterator[tuple[str, str]]:
    step_views, views = config.optimizer.batch_size, config.optimizer.views_per_image
    unit, images = "images", "real images"
    if views > 1:
        unit, images = "views", f"views of {pace.batch_size // views:,} real images"
    measured, steps = (
        pace.num_steps * pace.batch_size,
        config.optimizer.epochs * (len(data.train) * views // step_views),
    )
    yield (
        "measured",
        f"{pace.num_steps:,} steps of {pace.batch_size:,} {images} in {pace.seconds:.3g} seconds, "
        f"{measured / pace.seconds:,.4g} {unit} a second, after {pace.num_warm} steps to warm up",
    )
    validated = f"; validating {len(data.val):,} images {_times(config)} comes on top" if data.val else ""
    about = "about" if pace.batch_size == step_views else "at most"  # smaller steps are slower
    yield "time", f"{about} {duration_text(steps * step_views * pace.seconds / measured)} for all steps{validated}"
    gpu, loaders = peak_gpu_bytes(accelerator.device), peak_bytes(resource.RUSAGE_CHILDREN)
    taken = [f"{bytes_text(peak_bytes())} at most in each process"]
    taken += [f"{bytes_text(loaders)} in each loader process"] if config.data.workers else []
    taken += [f"{bytes_text(gpu)} on its GPU"] if gpu else []
    yield "memory", ", ".join(taken)
    if pace.batch_size < step_views:
        yield "", f"with {pace.batch_size:,} {unit} a step, since a CPU trains slowly; the run takes {step_views:,}"


def _times(config: TrainConfig) -> str:
    """How often a run validates: every few epochs, and after the last one."""
    times = math.ceil(config.optimizer.epochs / config.validation.eval_every)
    return "once" if times == 1 else f"{times:,} times"
