"""`--dry-run`: what a run would do and need, and two steps of it, with neither data nor store nor teacher."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from pld.classes.names import read_class_names
from pld.errors import DataError, StoreError
from pld.images import Source, open_source
from pld.report.table import as_text
from pld.store import CodecIdentity, StoreGroup, open_stores
from pld.store.format.quantise import class_dtype
from train_student.config import TrainConfig
from train_student.data.teacher_signal import check_supports
from train_student.data.training_data import open_training_data
from train_student.model.student import build_schedule
from train_student.run.run import steps_per_epoch
from train_student.run.smoke_run import Trial, try_steps

_IMAGENET_IMAGES, _IMAGENET_CLASSES = 1_281_167, 1000
_VIEWS, _SMALL_K = 50, 50  # what `make cache` does by itself
# Bytes of a sample's view in a store by k, EfficientNet-Lite2 on ImageNet photos: docs/decisions/0003.
_MEASURED_K, _MEASURED_BYTES = (10, 50, 1000), (27.7, 93.5, 1390.0)
_BAR = 40
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a run's length and store depend on.

    Attributes:
        num_samples: training images.
        num_classes: C.
        store: the run's store, where it is there.
        assumed: why the sizes are the data's, the store's or ImageNet's alone; empty where all could be opened.
        validation: what the run would be validated on.
    """

    num_samples: int
    num_classes: int
    store: StoreGroup | None
    assumed: tuple[str, ...] = ()
    validation: str = "unknown"


def dry_run(config: TrainConfig) -> None:
    """Print steps, learning rates, memory and the store of a run, and train two steps on made-up data.

    Nothing is written. Data and store are looked at where they are there; else the sizes are ImageNet-1k's.

    Raises:
        PLDError: something that would stop the run as well.
    """
    accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(config.autocast, config.autocast))
    world = accelerator.num_processes
    sizes = look(config)
    steps = steps_per_epoch(config, sizes.num_samples, world)
    required = config.loss_function.required_signal
    if sizes.store and required.needs_teacher and not config.online_teacher:
        check_supports(sizes.store, required, approximate=config.approximate_teacher)
    set_seed(config.seed)
    trial = try_steps(config, accelerator, num_classes=sizes.num_classes, k=_wanted_k(config, sizes))
    if accelerator.is_main_process:
        print(f"{config.output}: {config.model}, {config.loss}: a dry run, which trains and writes nothing")
        print(as_text(("steps", f"{steps * config.epochs:,}"), list(_step_rows(config, sizes, world))))
        print("\n" + as_text(("epoch", "step", "learning rate", ""), list(_lr_rows(config, steps))))
        print("\n" + as_text(("memory", "of each process"), list(_memory_rows(config, trial, world))))
        print("\n" + as_text(("store", " + ".join(config.stores) or "none"), list(_store_rows(config, sizes, world))))
        print(
            "\n"
            + as_text(("two steps", "on made-up images"), list(_trial_rows(config, trial, world, accelerator.device)))
        )
    accelerator.end_training()


def look(config: TrainConfig) -> Sizes:
    """The sizes from data and store, where they are there; raises ConfigError where they contradict the settings."""
    reasons: list[str] = []
    looked_at = bool(config.data)
    if "://" in config.data:
        looked_at = False
        reasons.append(f"{config.data}: images behind URLs are fetched to be counted, which a dry run does not do")
    whole = _there(lambda: open_training_data(config), reasons) if looked_at else None
    if whole:
        return Sizes(
            num_samples=len(whole.train),
            num_classes=whole.num_classes,
            store=whole.store,
            validation=whole.validation_text,
        )
    source = _there(lambda: _training_images(config), reasons) if looked_at else None
    store = _there(lambda: open_stores(config.stores, config.combine, config.seed), reasons) if config.stores else None
    names = source.class_names if source else None
    known = store.num_classes if store else len(names) if names else config.num_classes
    taken = "the data" if source else "the store" if store else "ImageNet-1k"
    return Sizes(
        num_samples=len(source) if source else store.num_samples if store else _IMAGENET_IMAGES,
        num_classes=known or _IMAGENET_CLASSES,
        store=store,
        assumed=(f"{taken}'s number of images, for want of:", *dict.fromkeys(reasons)),
    )


def _training_images(config: TrainConfig) -> Source:
    return open_source(config.data, config.split, class_names=read_class_names(config.class_names))


def _there(opened: Callable[[], T], reasons: list[str]) -> T | None:
    """What can be opened; else None, and why is added to the reasons."""
    try:
        return opened()
    except (DataError, StoreError) as error:
        reasons.append(str(error).splitlines()[0])
        return None


def lr_curve(config: TrainConfig, epoch_steps: int) -> list[tuple[int, float]]:
    """About a dozen (step, learning rate): the first step, the warm-up's middle and end, evenly on, and the last."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=config.lr)
    schedule = build_schedule(config, optimizer, epoch_steps)
    last, warm = config.epochs * epoch_steps - 1, config.warmup_epochs * epoch_steps
    steps = sorted({0, min(warm // 2, last), min(warm, last), *(last * ninth // 9 for ninth in range(1, 10))})
    curve = []
    for step in steps:
        schedule.step_update(step)
        curve.append((step, float(optimizer.param_groups[0]["lr"])))
    return curve


def bytes_per_view(k: int) -> float:
    """Bytes that a store takes for a view of a sample, between the measured k linearly, above them in proportion."""
    return float(np.interp(k, _MEASURED_K, _MEASURED_BYTES)) * max(1.0, k / _MEASURED_K[-1])


def table_bytes(num_samples: int, num_classes: int, k: int, num_temperatures: int) -> int:
    """Bytes of one view in memory: a class and a log-probability for each rank, the label's, the tails, the label."""
    class_bytes = class_dtype(num_classes).itemsize
    return num_samples * (k * (class_bytes + 2) + 2 + 2 * num_temperatures + class_bytes)


def _wanted_k(config: TrainConfig, sizes: Sizes) -> int:
    if sizes.store:
        return sizes.store.k
    all_classes = config.loss_function.required_signal.all_classes and not config.approximate_teacher
    return sizes.num_classes if all_classes else min(_SMALL_K, sizes.num_classes)


def _step_rows(config: TrainConfig, sizes: Sizes, world: int) -> Iterator[tuple[str, str]]:
    steps, dropped = divmod(sizes.num_samples, config.batch_size)
    yield "epochs", f"{config.epochs}, of {steps:,} steps each"
    yield "batch", f"{config.batch_size:,} images, {config.batch_size // world:,} for each of {_processes(world)}"
    yield "images", f"{sizes.num_samples:,}, {sizes.num_classes} classes; {dropped:,} dropped each epoch"
    yield from (("", line) for line in sizes.assumed)
    yield "validation", sizes.validation


def _lr_rows(config: TrainConfig, epoch_steps: int) -> Iterator[tuple[str, str, str, str]]:
    for step, lr in lr_curve(config, epoch_steps):
        yield f"{step / epoch_steps:.1f}", f"{step:,}", f"{lr:.6f}", "#" * round(_BAR * lr / config.lr)


def _memory_rows(config: TrainConfig, trial: Trial, world: int) -> Iterator[tuple[str, str]]:
    micro = config.batch_size // world // config.accumulate
    yield "weights", f"{shown(trial.parameter_bytes)}, {trial.parameters:,} parameters"
    yield "gradients", shown(trial.parameter_bytes) + (", and as much in DDP's buckets" if world > 1 else "")
    yield "optimizer", f"{shown(trial.state_bytes)}, {config.opt}"
    if config.ema_decay:
        yield "average", f"{shown(trial.average_bytes)}, of the weights"
    activations = trial.fixed_bytes + micro * trial.image_bytes
    yield "activations", f"{shown(activations)} for {micro:,} images at once, {shown(trial.image_bytes)} each"
    yield "together", f"{shown(trial.bytes_at(micro, processes=world))}, without the workspace of kernels"
    if trial.peak_bytes is not None:
        yield "measured", f"{shown(trial.peak_bytes)} at most allocated on the GPU with {trial.images[1]} images"
    if config.online_teacher:
        yield "teacher", f"{config.teacher} comes on top: it was not built"


def _store_rows(config: TrainConfig, sizes: Sizes, world: int) -> Iterator[tuple[str, str]]:
    required = config.loss_function.required_signal
    if not required.needs_teacher or config.online_teacher:
        yield "needs", "no store: " + ("the teacher runs in training" if required.needs_teacher else "no teacher")
        return
    k = _wanted_k(config, sizes)
    if required.all_classes:
        yield "needs", f"all {sizes.num_classes} classes: {required.all_classes}"
    else:
        yield "needs", f"any k; {min(_SMALL_K, sizes.num_classes)} recommended"
    if sizes.store:
        yield "holds", f"top {k} of {sizes.num_classes}, {sizes.store.num_views} views, {shown(sizes.store.num_bytes)}"
    else:
        views, each = config.views or _VIEWS, bytes_per_view(k)
        total = shown(views * sizes.num_samples * each)
        yield "size", f"about {total}: {views} views x {sizes.num_samples:,} images x {each:,.4g} bytes (k = {k})"
    held = [member.manifest.identity.codec for member in sizes.store.members] if sizes.store else [CodecIdentity(k=k)]
    table = sum(table_bytes(sizes.num_samples, sizes.num_classes, codec.k, len(codec.temperatures)) for codec in held)
    yield (
        "in memory",
        f"{shown(table)} in each process, one view at a time; {shown(world * table)} in {_processes(world)}",
    )


def _trial_rows(config: TrainConfig, trial: Trial, world: int, device: torch.device) -> Iterator[tuple[str, str]]:
    micro = config.batch_size // world // config.accumulate
    for number, images, loss in zip(itertools.count(1), trial.images, trial.losses, strict=False):
        yield f"step {number}", f"loss {loss:.4f}, {images} images in each process"
    yield "second", f"{trial.seconds:.2f} s, {config.autocast} on {device.type}"
    if trial.images[1] < micro:
        yield "", f"on a CPU only {trial.images[1]} of the {micro:,} images"


def _processes(world: int) -> str:
    return f"{world} process{'es' if world > 1 else ''}"


def shown(num_bytes: int | float) -> str:
    """Bytes as people read them, in powers of 1000."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} kB"
