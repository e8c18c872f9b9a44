"""Where the teacher's signal for a batch comes from: a store, a live teacher, or nowhere."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pld.errors import ConfigError
from pld.images import Source
from pld.losses import RequiredSignal
from pld.signals import TopK
from pld.store import Store, StoreGroup
from pld.teachers import Teacher
from pld.views.preprocessing import Preprocessing
from train_student.data.batches import Batch
from train_student.data.view_tables import ViewTables


class NoTeacher:
    """For cross entropy and label smoothing."""

    preprocessings: tuple[Preprocessing, ...] = ()
    approximate = False

    def __call__(self, batch: Batch, device: torch.device) -> None:
        """Nothing."""


class StoredTeacher:
    """Looks a batch up in its view's table; holds one view at a time, and the next one where it is told of it."""

    preprocessings: tuple[Preprocessing, ...] = ()

    def __init__(
        self, store: Store | StoreGroup, source: Source, *, approximate: bool = False, tables: ViewTables | None = None
    ) -> None:
        self.approximate = approximate
        self._rows = store.rows(source.keys)
        self._tables = tables or ViewTables(store)

    def prepare(self, view_index: int) -> None:
        """Begin to load the view that comes next."""
        self._tables.prepare(view_index)

    def settle(self) -> None:
        """Wait for it."""
        self._tables.settle()

    def __call__(self, batch: Batch, device: torch.device) -> TopK:
        """The batch's top-k; waits for the view where it is another than the last batch's and was not prepared."""
        topk = self._tables[batch.request.view_index][self._rows[..., batch.request.rows]]
        # From pageable memory a copy waits until the GPU is done with all that came before.
        return topk.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else topk.to(device)


class LiveTeacher:
    """Runs the teacher on the batch's own views, for comparison."""

    approximate = False

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self.preprocessings: tuple[Preprocessing, ...] = (teacher.preprocessing,)

    def __call__(self, batch: Batch, device: torch.device) -> Tensor:
        """The teacher's logits [B, C]."""
        return self._teacher.logits(batch.images[-1].to(device, non_blocking=True))


@runtime_checkable
class TeacherSignal(Protocol):
    """What a run asks for its teacher's signal: one of the above, or made up.

    Attributes:
        preprocessings: inputs that a teacher wants in `Batch.images`, behind the student's.
        approximate: whether the loss asks for more than this teacher holds.
    """

    preprocessings: tuple[Preprocessing, ...]
    approximate: bool

    def __call__(self, batch: Batch, device: torch.device) -> TopK | Tensor | None:
        """The signal of a batch, on the device."""


def check_supports(store: StoreGroup, required: RequiredSignal, *, approximate: bool) -> bool:
    """Whether a store's truncated teacher only approximates what a loss asks for.

    Raises:
        ConfigError: it does and `approximate` is false, or it lacks a temperature that the loss needs.
    """
    k, num_classes = store.k, store.num_classes
    if k == num_classes:
        return False
    if required.all_classes and not approximate:
        raise ConfigError(
            f"{store.url}: holds the top {k} of {num_classes} classes; this loss needs all: "
            f"{required.all_classes}. Use a store made with K={num_classes} or --online-teacher, or accept the error "
            "with --approximate-teacher"
        )
    missing = [t for t in required.temperatures if t not in store.temperatures]
    if missing:
        raise ConfigError(f"{store.url}: does not hold temperature {missing[0]:g}, only {list(store.temperatures)}")
    return required.all_classes is not None
