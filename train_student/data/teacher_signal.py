"""Where the teacher's signal for a batch comes from: a store, a live teacher, or nowhere."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Sequence
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from pld.classes.names import read_class_map
from pld.errors import ConfigError
from pld.images import Source
from pld.join.match import map_classes
from pld.losses import RequiredSignal
from pld.signals import TopK, with_tensors
from pld.store import Store, StoreGroup
from pld.teachers import Teacher, build_teacher
from pld.views.preprocessing import Preprocessing
from train_student.config import TrainConfig
from train_student.data.batches import Batch
from train_student.data.training_data import TrainingData
from train_student.data.view_tables import ViewTables, shared_folder

_LOG = logging.getLogger(__name__)
# In lengths of the gradient: above it, a batch of 256 views is off by more than a sixteenth of it.
_MOST_NOISE = 1.0


class TeacherSignal:
    """Base class of teacher signals. It gives no signal, for cross entropy and label smoothing.

    Attributes:
        preprocessings: inputs that a teacher wants in `Batch.images`, behind the student's.
        approximate: whether the loss asks for more than this teacher holds.
        is_cached: whether its logits come from a store.
        identity: of a live teacher: a digest of its weights, code, preprocessing and which of its classes are used.
        part: what asking for a signal counts as in an epoch's times.
    """

    preprocessings: tuple[Preprocessing, ...] = ()
    approximate: bool = False
    is_cached: bool = False
    identity: str | None = None
    part: Literal["joining", "teacher"] = "joining"

    def __call__(self, batch: Batch, device: torch.device) -> TopK | Tensor | None:
        """The signal of a batch, on the device."""
        return None

    def prepare(self, view_indexes: tuple[int, ...]) -> None:
        """Begin to load the views of the next epoch, where views are loaded."""

    def is_ready(self, view_indexes: tuple[int, ...], seconds: float) -> bool:
        """Whether the views can be had within so many seconds."""
        return True

    def is_settled(self, seconds: float) -> bool:
        """Whether nothing is being loaded within so many seconds."""
        return True


class StoredTeacher(TeacherSignal):
    """Looks a batch up in its views' tables; holds an epoch's views, and the next epoch's once they are prepared."""

    is_cached = True

    def __init__(
        self, store: Store | StoreGroup, source: Source, *, approximate: bool = False, tables: ViewTables | None = None
    ) -> None:
        self.approximate = approximate
        self._rows = store.rows(source.keys)
        self._tables = tables or ViewTables(store)

    def prepare(self, view_indexes: tuple[int, ...]) -> None:
        """Begin to load the views of the next epoch."""
        self._tables.prepare(view_indexes)

    def is_ready(self, view_indexes: tuple[int, ...], seconds: float) -> bool:
        """Load the views, if they were not prepared; whether they are there within so many seconds."""
        return self._tables.is_ready(view_indexes, seconds)

    def is_settled(self, seconds: float) -> bool:
        """Whether nothing is being loaded within so many seconds."""
        return self._tables.is_settled(seconds)

    def __call__(self, batch: Batch, device: torch.device) -> TopK:
        """The batch's top-k; waits for the views where they are others than the last batch's and were not prepared."""
        rows = self._rows[..., batch.request.rows]
        topk = image_by_image([table[rows] for table in self._tables[tuple(batch.request.view_indexes)]])
        # From pageable memory a copy waits until the GPU is done with all that came before.
        return topk.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else topk.to(device)


def image_by_image(views: Sequence[TopK]) -> TopK:
    """V views' signals of the same n images as one of n V rows: an image's views one after the other."""
    if len(views) == 1:
        return views[0]
    joined = with_tensors(views, lambda *tensors: torch.stack(tensors, dim=1).flatten(0, 1))
    return dataclasses.replace(joined, logprob_error=max(view.logprob_error for view in views))


class LiveTeacher(TeacherSignal):
    """Runs the teacher on the batch's own views, for comparison."""

    part = "teacher"

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self.preprocessings = (teacher.preprocessing,)
        described = json.dumps(
            [teacher.weights_sha256, teacher.code_sha256, teacher.columns, repr(teacher.preprocessing)]
        )
        self.identity = hashlib.sha256(described.encode()).hexdigest()

    def __call__(self, batch: Batch, device: torch.device) -> Tensor:
        """The teacher's logits [B, C]."""
        return self._teacher.logits(batch.images[-1].to(device, non_blocking=True))


def open_teacher_signal(config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> TeacherSignal:
    """The signal that a run's loss requires, from its stores or its live teacher.

    Raises:
        PLDError: the teacher cannot be built, or the store does not support the loss.
    """
    options, required = config.teacher, config.loss.build().required_signal
    if not required.needs_teacher:
        return TeacherSignal()
    if options.online_teacher:
        assert options.name is not None  # TrainConfig checks
        device, precision = str(accelerator.device), config.run.resolved_precision
        teacher = build_teacher(options.name, options.weights, precision=precision, device=device)
        teacher, note = map_classes(teacher, data.classes, read_class_map(options.class_map))
        if accelerator.is_main_process:
            for said in filter(None, (*teacher.notes, note)):
                _LOG.warning("%s", said)
        return LiveTeacher(teacher)
    assert data.store is not None  # likewise
    approximate = check_supports(data.store, required, approximate=config.loss.approximate_teacher)
    tables = ViewTables(data.store, shared_folder(accelerator), writes=accelerator.is_local_main_process)
    return StoredTeacher(data.store, data.train, approximate=approximate, tables=tables)


def check_supports(store: StoreGroup, required: RequiredSignal, *, approximate: bool) -> bool:
    """Whether a store's truncated teacher only approximates what a loss asks for.

    Raises:
        ConfigError: it does and `approximate` is false, or its sampled tail is too noisy for that, or it lacks a
            temperature that the loss needs, or the loss needs the same k of every sample and the store keeps as many as
            an error asks for.
    """
    k, num_classes = store.k, store.num_classes
    if required.same_k and store.error is not None:
        raise ConfigError(
            f"{store.url}: keeps as many classes of each view as bring PLD's error under {store.error:g}; this loss "
            f"needs the same k of all: {required.same_k}. Use a store made without --error, or --online-teacher"
        )
    if store.holds_all:
        return False
    is_sampled = required.sampled_tail and store.tail_samples > 0
    if required.all_classes and not approximate and not is_sampled:
        held = f"the top {k}" if store.error is None else f"at most the top {k}"
        raise ConfigError(
            f"{store.url}: holds {held} of {num_classes} classes; this loss needs all: "
            f"{required.all_classes}. Use a store made with K={num_classes}{_or_sampled(store, required)} or "
            "--online-teacher, or accept the error with --approximate-teacher"
        )
    missing = [t for t in required.temperatures if t not in store.temperatures]
    if missing:
        raise ConfigError(f"{store.url}: does not hold temperature {missing[0]:g}, only {list(store.temperatures)}")
    if required.all_classes and is_sampled and not approximate:
        _check_noise(store, required.temperatures[0])
    return required.all_classes is not None and not is_sampled


def _check_noise(store: StoreGroup, temperature: float) -> None:
    """Raise ConfigError where the gradient from one view's sampled tail is off by more than its own length."""
    error = store.tail_error(temperature)
    if error > _MOST_NOISE:
        enough, most = math.ceil(store.tail_samples * error**2), store.num_classes - store.k - store.is_labelled
        more = f"--tail_samples {enough + enough // 4} or more, or with " if enough + enough // 4 <= most else ""
        raise ConfigError(
            f"{store.url}: of one view, KD's gradient at temperature {temperature:g} from {store.tail_samples} classes "
            f"of the tail is off by {error:.3g} of its length. Use a store made with {more}K={store.num_classes}, a "
            "lower --temperature or --online-teacher, or accept the noise with --approximate-teacher"
        )


def _or_sampled(store: StoreGroup, required: RequiredSignal) -> str:
    """That a sampled tail would do, where it would."""
    if not required.sampled_tail:
        return ""
    if any(member.manifest.identity.codec.tail_samples for member in store.members):
        return ", or one of these alone, as combining them loses their sampled tails,"
    most = store.num_classes - store.k - store.is_labelled
    return f" or with --tail_samples {min(8, most)}" if most > 0 else ""
