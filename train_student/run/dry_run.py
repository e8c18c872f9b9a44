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
from pld.images import open_source
from pld.report.table import as_text
from pld.store import CodecIdentity, StoreGroup, open_stores
from pld.store.format.quantise import class_dtype
from train_student.config import LossOptions, OptimizerOptions, TrainConfig
from train_student.data.teacher_signal import check_supports
from train_student.data.training_data import open_training_data
from train_student.loop.trainer import count_steps
from train_student.model.optimizer import build_schedule
from train_student.run.smoke_run import SmokeRun, smoke_run

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
    precision = config.run.autocast
    accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(precision, precision))
    world = accelerator.num_processes
    sizes = find_sizes(config)
    steps = count_steps(config.optimizer, config.data.streams, sizes.num_samples, world)
    required = config.loss.build().required_signal
    if sizes.store and required.needs_teacher and not config.teacher.online_teacher:
        check_supports(sizes.store, required, approximate=config.loss.approximate_teacher)
    set_seed(config.run.seed)
    smoke = smoke_run(config, accelerator, num_classes=sizes.num_classes, k=_wanted_k(config.loss, sizes))
    if accelerator.is_main_process:
        print(
            f"{config.run.output}: {config.model.name}, {config.loss.name}: a dry run, which trains and writes nothing"
        )
        total, stores = f"{steps * config.optimizer.epochs:,}", " + ".join(config.teacher.stores) or "none"
        tables = [
            as_text(("steps", total), list(_step_rows(config.optimizer, sizes, world))),
            as_text(("epoch", "step", "learning rate", ""), list(_lr_rows(config.optimizer, steps))),
            as_text(("memory", "of each process"), list(_memory_rows(config, smoke, world))),
            as_text(("store", stores), list(_store_rows(config, sizes, world))),
            as_text(("two steps", "on made-up images"), list(_smoke_rows(config, smoke, world, accelerator.device))),
        ]
        print("\n\n".join(tables))
    accelerator.end_training()


def find_sizes(config: TrainConfig) -> Sizes:
    """The sizes from data and store, where they are there; raises ConfigError where they contradict the settings."""
    data, teacher, seed = config.data, config.teacher, config.run.seed
    reasons: list[str] = []
    is_local = bool(data.images) and "://" not in data.images
    if data.images and not is_local:
        reasons.append(f"{data.images}: images behind URLs are fetched to be counted, which a dry run does not do")
    whole = source = store = None
    if is_local:
        whole = _try(lambda: open_training_data(data, config.validation, teacher, seed=seed), reasons)
    if whole:
        return Sizes(
            num_samples=len(whole.train),
            num_classes=whole.num_classes,
            store=whole.store,
            validation=whole.validation_text,
        )
    if is_local:
        names = read_class_names(data.class_names)
        source = _try(lambda: open_source(data.images, data.split, class_names=names), reasons)
    if teacher.stores:
        store = _try(lambda: open_stores(teacher.stores, teacher.combine, seed), reasons)
    names = source.class_names if source else None
    known = store.num_classes if store else len(names) if names else data.num_classes
    taken = "the data" if source else "the store" if store else "ImageNet-1k"
    return Sizes(
        num_samples=len(source) if source else store.num_samples if store else _IMAGENET_IMAGES,
        num_classes=known or _IMAGENET_CLASSES,
        store=store,
        assumed=(f"{taken}'s number of images, for want of:", *dict.fromkeys(reasons)),
    )


def _try(open_it: Callable[[], T], reasons: list[str]) -> T | None:
    """What can be opened; else None, and why is added to the reasons."""
    try:
        return open_it()
    except (DataError, StoreError) as error:
        reasons.append(str(error).splitlines()[0])
        return None


def lr_curve(options: OptimizerOptions, epoch_steps: int) -> list[tuple[int, float]]:
    """About a dozen (step, learning rate): the first step, the warm-up's middle and end, evenly on, and the last."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=options.lr)
    schedule = build_schedule(options, optimizer, epoch_steps)
    last, warm = options.epochs * epoch_steps - 1, options.warmup_epochs * epoch_steps
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


def _wanted_k(loss: LossOptions, sizes: Sizes) -> int:
    if sizes.store:
        return sizes.store.k
    all_classes = loss.build().required_signal.all_classes and not loss.approximate_teacher
    return sizes.num_classes if all_classes else min(_SMALL_K, sizes.num_classes)


def _step_rows(options: OptimizerOptions, sizes: Sizes, world: int) -> Iterator[tuple[str, str]]:
    steps, dropped = divmod(sizes.num_samples, options.batch_size)
    yield "epochs", f"{options.epochs}, of {steps:,} steps each"
    yield "batch", f"{options.batch_size:,} images, {options.batch_size // world:,} for each of {_processes(world)}"
    yield "images", f"{sizes.num_samples:,}, {sizes.num_classes} classes; {dropped:,} dropped each epoch"
    yield from (("", line) for line in sizes.assumed)
    yield "validation", sizes.validation


def _lr_rows(options: OptimizerOptions, epoch_steps: int) -> Iterator[tuple[str, str, str, str]]:
    for step, lr in lr_curve(options, epoch_steps):
        yield f"{step / epoch_steps:.1f}", f"{step:,}", f"{lr:.6f}", "#" * round(_BAR * lr / options.lr)


def _memory_rows(config: TrainConfig, smoke: SmokeRun, world: int) -> Iterator[tuple[str, str]]:
    micro = config.optimizer.batch_size // world // config.optimizer.accumulate
    yield "weights", f"{shown(smoke.parameter_bytes)}, {smoke.parameters:,} parameters"
    yield "gradients", shown(smoke.parameter_bytes) + (", and as much in DDP's buckets" if world > 1 else "")
    yield "optimizer", f"{shown(smoke.state_bytes)}, {config.optimizer.opt}"
    if config.optimizer.ema_decay:
        yield "average", f"{shown(smoke.average_bytes)}, of the weights"
    activations = smoke.fixed_bytes + micro * smoke.image_bytes
    yield "activations", f"{shown(activations)} for {micro:,} images at once, {shown(smoke.image_bytes)} each"
    yield "together", f"{shown(smoke.bytes_at(micro, processes=world))}, without the workspace of kernels"
    if smoke.peak_bytes is not None:
        yield "measured", f"{shown(smoke.peak_bytes)} at most allocated on the GPU with {smoke.images[1]} images"
    if config.teacher.online_teacher:
        yield "teacher", f"{config.teacher.name} comes on top: it was not built"


def _store_rows(config: TrainConfig, sizes: Sizes, world: int) -> Iterator[tuple[str, str]]:
    required = config.loss.build().required_signal
    if not required.needs_teacher or config.teacher.online_teacher:
        yield "needs", "no store: " + ("the teacher runs in training" if required.needs_teacher else "no teacher")
        return
    k = _wanted_k(config.loss, sizes)
    if required.all_classes:
        yield "needs", f"all {sizes.num_classes} classes: {required.all_classes}"
    else:
        yield "needs", f"any k; {min(_SMALL_K, sizes.num_classes)} recommended"
    if sizes.store:
        yield "holds", f"top {k} of {sizes.num_classes}, {sizes.store.num_views} views, {shown(sizes.store.num_bytes)}"
    else:
        views, each = config.data.views or _VIEWS, bytes_per_view(k)
        total = shown(views * sizes.num_samples * each)
        yield "size", f"about {total}: {views} views x {sizes.num_samples:,} images x {each:,.4g} bytes (k = {k})"
    held = [member.manifest.identity.codec for member in sizes.store.members] if sizes.store else [CodecIdentity(k=k)]
    table = sum(table_bytes(sizes.num_samples, sizes.num_classes, codec.k, len(codec.temperatures)) for codec in held)
    yield (
        "in memory",
        f"{shown(table)} in each process, one view at a time; {shown(world * table)} in {_processes(world)}",
    )


def _smoke_rows(config: TrainConfig, smoke: SmokeRun, world: int, device: torch.device) -> Iterator[tuple[str, str]]:
    micro = config.optimizer.batch_size // world // config.optimizer.accumulate
    for number, images, loss in zip(itertools.count(1), smoke.images, smoke.losses, strict=False):
        yield f"step {number}", f"loss {loss:.4f}, {images} images in each process"
    yield "second", f"{smoke.seconds:.2f} s, {config.run.autocast} on {device.type}"
    if smoke.images[1] < micro:
        yield "", f"on a CPU only {smoke.images[1]} of the {micro:,} images"


def _processes(world: int) -> str:
    return f"{world} process{'es' if world > 1 else ''}"


def shown(num_bytes: int | float) -> str:
    """Bytes as people read them, in powers of 1000."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} kB"
