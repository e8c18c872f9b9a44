"""`--dry-run`: print a run's plan and needs, train two made-up steps, and a minute on real images if they are there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from pld.classes.matching import Classes
from pld.classes.names import read_class_names
from pld.errors import DataError, StoreError
from pld.images import Source, open_source
from pld.join.match import stored_policy
from pld.report.quantities import bytes_per_view, bytes_text
from pld.report.table import as_text
from pld.store import StoreGroup, open_stores
from pld.views import Policy, RandomResizedCrop, mix_steps
from pld.views.policy_text import parse_policy
from train_student.config import TrainConfig
from train_student.data.teacher_signal import check_supports
from train_student.data.training_data import TrainingData, is_unlabelled, open_training_data
from train_student.data.view_policy import check_policy, count_views
from train_student.loop.run_batches import count_steps
from train_student.model.optimizer import build_schedule
from train_student.option_groups import DataOptions, LossOptions, OptimizerOptions
from train_student.run.plan.measured_run import measured_run
from train_student.run.plan.smoke_run import smoke_run

_IMAGENET_IMAGES, _IMAGENET_CLASSES = 1_281_167, 1000
_VIEWS, _SMALL_K = 50, 50  # what `make cache` does by itself
T = TypeVar("T")


class Sizes(NamedTuple):
    """What a run's length, views and store depend on.

    `assumed` says why the sizes are not the run's own, which come from its `data`.
    """

    num_samples: int
    classes: Classes
    store: StoreGroup | None
    policy: Policy
    validation: str = "unknown"
    assumed: tuple[str, ...] = ()
    data: TrainingData | None = None


def dry_run(config: TrainConfig) -> None:
    """Print steps, learning rates, memory and the store of a run, and train two steps on made-up data.

    Where its data are there, train on them for a minute and say how long the run will take.

    Nothing is written. Data and store are looked at where they are there; else the sizes are ImageNet-1k's.

    Raises:
        PLDError: something that would stop the run as well.
    """
    precision = config.run.resolved_precision
    accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(precision, precision))
    world = accelerator.num_processes
    sizes = _find_sizes(config, accelerator.device)
    steps = count_steps(config.optimizer, config.data.streams, sizes.num_samples, world)
    count_views(config.data.views, config.optimizer.views_per_image, sizes.policy, sizes.store)
    required = config.loss.build().required_signal
    if sizes.store and required.needs_teacher and not config.teacher.online_teacher:
        check_supports(sizes.store, required, approximate=config.loss.approximate_teacher)
    set_seed(config.run.seed)
    k, labelled = _wanted_k(config.loss, sizes), not is_unlabelled(config, sizes.store)
    mixed = bool(mix_steps(sizes.policy))
    drawn = sizes.store.tail_samples if sizes.store else 0
    measured = smoke_run(
        config, accelerator, classes=sizes.classes, k=k, labelled=labelled, mixed=mixed, tail_samples=drawn
    )
    if sizes.data and (reason := _why_not_measured(config, sizes.data)):
        measured.append(("not measured", reason))
    elif sizes.data:
        measured += measured_run(config, accelerator, sizes.data)
    if accelerator.is_main_process:
        print(
            f"{config.run.output}: {config.model.name}, {config.loss.name}: a dry run, which trains and writes nothing"
        )
        labels = [] if labelled else [("labels", "none: the teacher's ranking is the only signal")]
        rows = [
            *_step_rows(config.optimizer, sizes, world),
            *labels,
            *_policy_rows(sizes.policy),
            *_store_rows(config, sizes),
            *measured,
        ]
        print(as_text(("steps", f"{steps * config.optimizer.epochs:,}"), rows))
    accelerator.end_training()


def _find_sizes(config: TrainConfig, device: torch.device) -> Sizes:
    """The sizes from data and store, where they are there; raises ConfigError where they contradict the settings."""
    data, teacher = config.data, config.teacher
    reasons: list[str] = []
    source = None
    if "://" in data.images:
        reasons.append(f"{data.images}: images behind URLs are fetched to be counted, which a dry run does not do")
    elif data.images:
        whole = _try(lambda: open_training_data(config, device if device.type == "cuda" else None), reasons)
        if whole:
            return Sizes(len(whole.train), whole.classes, whole.store, whole.policy, whole.validation_text, data=whole)
    store = None
    if teacher.stores:
        store = _try(lambda: open_stores(teacher.stores, teacher.combine, config.run.seed), reasons)
    if data.images and "://" not in data.images:
        names, unlabelled = read_class_names(data.class_names), is_unlabelled(config, store)
        source = _try(lambda: open_source(data.images, data.split, class_names=names, unlabelled=unlabelled), reasons)
    names = source.class_names if source else None
    known = store.num_classes if store else len(names) if names else data.num_classes
    taken = "the data" if source else "the store" if store else "ImageNet-1k"
    return Sizes(
        len(source) if source else store.num_samples if store else _IMAGENET_IMAGES,
        Classes(names=store.class_names if store else names, count=known or _IMAGENET_CLASSES, owner=taken),
        store,
        _policy(data, source, store),
        assumed=(f"{taken}'s number of images, for want of:", *dict.fromkeys(reasons)),
    )


def _policy(options: DataOptions, source: Source | None, store: StoreGroup | None) -> Policy:
    """How views are drawn, as far as is known; raises ConfigError where the option names none, or not the store's."""
    own = source.policy if source else RandomResizedCrop()
    if store:
        # Without the images the store says what their own crop and flip are.
        own = source.policy if source else dataclasses.replace(stored_policy(store.members[0]), steps=())
        return check_policy(options.policy, own, store.members[0])
    return parse_policy(options.policy, own) if options.policy else own


def _why_not_measured(config: TrainConfig, data: TrainingData) -> str | None:
    """What keeps this machine from loading the run's images as the run will."""
    decoders = {member.manifest.identity.views.decoder for member in (data.store.members if data.store else ())}
    if data.gpu is None and "nvjpeg" in {config.data.decoder, *decoders}:
        return "nvJPEG decodes the run's images, which needs a GPU"
    return None


def _try(open_it: Callable[[], T], reasons: list[str]) -> T | None:
    """What can be opened; else None, and why is added to the reasons."""
    try:
        return open_it()
    except (DataError, StoreError) as error:
        reasons.append(str(error).splitlines()[0])
        return None


def lr_curve(options: OptimizerOptions, epoch_steps: int) -> list[tuple[int, float]]:
    """A few (step, learning rate): the first step, the warm-up's end, evenly on, and the last."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=options.lr)
    schedule = build_schedule(options, optimizer, epoch_steps)
    last, warm = options.epochs * epoch_steps - 1, options.warmup_epochs * epoch_steps
    curve = []
    for step in sorted({0, min(warm, last), *(last * quarter // 4 for quarter in range(1, 5))}):
        schedule.step_update(step)
        curve.append((step, float(optimizer.param_groups[0]["lr"])))
    return curve


def _wanted_k(loss: LossOptions, sizes: Sizes) -> int:
    if sizes.store:
        return sizes.store.k
    all_classes = loss.build().required_signal.all_classes and not loss.approximate_teacher
    return sizes.classes.count if all_classes else min(_SMALL_K, sizes.classes.count)


def _step_rows(options: OptimizerOptions, sizes: Sizes, world: int) -> Iterator[tuple[str, str]]:
    views = options.views_per_image
    steps, dropped = divmod(sizes.num_samples, options.batch_size // views)
    unit = "images" if views == 1 else f"views of {options.batch_size // views:,} images"
    processes = f"{world} process{'es' if world > 1 else ''}"
    yield "epochs", f"{options.epochs}, of {steps:,} steps each"
    yield "batch", f"{options.batch_size:,} {unit}, {options.batch_size // world:,} for each of {processes}"
    yield "images", f"{sizes.num_samples:,}, {sizes.classes.count} classes; {dropped:,} dropped each epoch"
    yield from (("", line) for line in sizes.assumed)
    yield "validation", sizes.validation
    for step, lr in lr_curve(options, steps):
        yield "learning rate", f"{lr:.6f} after {step / steps:.1f} epochs, {step:,} steps"


def _policy_rows(policy: Policy) -> Iterator[tuple[str, str]]:
    if policy.steps:
        yield "views", f"with {', '.join(step.name for step in policy.steps)}"


def _store_rows(config: TrainConfig, sizes: Sizes) -> Iterator[tuple[str, str]]:
    required, store = config.loss.build().required_signal, sizes.store
    if not required.needs_teacher:
        yield "needs", "no store: no teacher"
        return
    if config.teacher.online_teacher:
        yield "needs", "no store: the teacher runs in training"
        yield "teacher", f"{config.teacher.name}'s memory comes on top: it was not built"
        return
    k = _wanted_k(config.loss, sizes)
    if required.sampled_tail and store and store.tail_samples:
        yield "needs", f"any k with a sampled tail; this one has {store.tail_samples} classes of it"
    elif required.all_classes:
        yield "needs", f"all {sizes.classes.count} classes: {required.all_classes}"
    else:
        yield "needs", f"any k; {min(_SMALL_K, sizes.classes.count)} recommended"
    if store:
        yield "store", " + ".join(config.teacher.stores)
        yield "holds", f"top {k} of {sizes.classes.count}, {store.num_views} views, {bytes_text(store.num_bytes)}"
    else:
        views, each = config.data.views or _VIEWS, bytes_per_view(k)
        total = bytes_text(views * sizes.num_samples * each)
        yield "size", f"about {total}: {views} views x {sizes.num_samples:,} images x {each:,.4g} bytes (k = {k})"
