"""Rerun the teacher on a few samples of a store, and compare its probabilities with the stored ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from pld.errors import TeacherError
from pld.images import Source
from pld.join.match import join_source, stored_policy
from pld.join.mixing import plan_mixing
from pld.store import Store
from pld.teachers import Teacher, view_logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far a teacher's probabilities are from the stored ones.

    Attributes:
        num_rows: sample-views compared.
        mean_l1, max_l1: of the difference between the probabilities of the stored classes at T = 1.
        rounding: bound on the L1 difference that the store's quantisation alone can cause.
    """

    num_rows: int
    mean_l1: float
    max_l1: float
    rounding: float


def rerun_teacher(store: Store, source: Source, teacher: Teacher, num_rows: int, *, seed: int = 0) -> Agreement:
    """Run the teacher on random samples of a random view and compare with the store.

    Raises:
        TeacherError: its weights are not those that the store was made with.
        DataError, StoreError: the source does not match the store, lacks images that its own are mixed with, or cannot
            be read.
    """
    wanted = store.manifest.identity.teacher.weights_sha256
    if teacher.weights_sha256 != wanted:
        raise TeacherError(
            f"{store.url}: made by {store.manifest.identity.teacher.name} with weights {wanted[:12]}..., "
            f"this teacher is {teacher.architecture} with {teacher.weights_sha256[:12]}..."
        )
    source, policy = join_source(store, source), stored_policy(store)
    class_map = store.manifest.identity.teacher.class_map
    teacher = dataclasses.replace(teacher, columns=class_map.columns if class_map else None)
    rng = np.random.default_rng(seed)
    view_index = int(rng.integers(store.num_views))
    rows = rng.permutation(len(source))[:num_rows]
    table = store.load_view(view_index)
    topk = table[table.rows(source.keys[rows])]
    logits = view_logits(teacher, source, rows.tolist(), view_index, policy, plan_mixing(source, policy, [store]))
    live = torch.log_softmax(logits, dim=1).gather(1, topk.classes)
    l1 = ((live.double().exp() - topk.logprobs.double().exp()).abs() * topk.listed).sum(dim=1)
    return Agreement(
        num_rows=len(rows),
        mean_l1=float(l1.mean()),
        max_l1=float(l1.max()),
        rounding=2 * float(np.tanh(topk.logprob_error / 2)),
    )
