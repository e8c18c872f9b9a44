"""Where the teacher's signal for a batch comes from: a store, a live teacher, or nowhere."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pld.images import Source
from pld.images.preprocessing import Preprocessing
from pld.signals import TopK
from pld.store import LogitTable, Store
from pld.teachers import Teacher
from train_student.input import Batch


class TeacherSignal(Protocol):
    """What a training step asks for besides its images."""

    @property
    def preprocessings(self) -> tuple[Preprocessing, ...]:
        """Inputs it wants in `Batch.images`, behind the student's."""
        ...

    def __call__(self, batch: Batch, device: torch.device) -> TopK | Tensor | None:
        """The teacher's signal for a batch, on the device."""
        ...


class NoTeacher:
    """For cross entropy and label smoothing."""

    preprocessings: tuple[Preprocessing, ...] = ()

    def __call__(self, batch: Batch, device: torch.device) -> None:
        """Nothing."""


class StoredTeacher:
    """Looks a batch up in its view's table; holds one view at a time."""

    preprocessings: tuple[Preprocessing, ...] = ()

    def __init__(self, store: Store, source: Source) -> None:
        self._store = store
        self._rows = store.rows(source.keys)
        self._view_index = -1
        self._table: LogitTable | None = None

    def __call__(self, batch: Batch, device: torch.device) -> TopK:
        """The batch's top-k; reads the view first where it is another than the last batch's."""
        if self._table is None or batch.item.view_index != self._view_index:
            self._table = None  # two views at once would double the memory
            self._table = self._store.load_view(batch.item.view_index)
            self._view_index = batch.item.view_index
        return self._table[self._rows[batch.item.rows]].to(device, non_blocking=True)


class LiveTeacher:
    """Runs the teacher on the batch's own views, for comparison."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self.preprocessings = (teacher.preprocessing,)

    def __call__(self, batch: Batch, device: torch.device) -> Tensor:
        """The teacher's logits [B, C]."""
        return self._teacher.logits(batch.images[-1].to(device, non_blocking=True))
