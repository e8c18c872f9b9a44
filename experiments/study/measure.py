"""What study.json says of a finished run, from its folder and its store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from experiments.study.data import DATA
from experiments.study.design import VIEWS, Trial
from experiments.study.recipe import Recipes, store_folder
from pld.images import open_source
from pld.report.runs.read import RunRecord
from pld.store import open_store
from pld.teachers import build_teacher, view_logits
from pld.views import Fixed

_BINS = 5
_KEPT = ("top1", "top5", "nll", "ece", "agreement", "kl", "loss", "images_per_second", "seconds")


def record(trial: Trial, run: RunRecord, recipes: Recipes, commit: str | None) -> dict[str, Any]:
    """A run as study.json holds it, all but the accuracy by the teacher's confidence."""
    student, provenance = trial.student, run.facts["provenance"]
    return {
        "name": trial.name,
        "method": student.method,
        "settings": dict(student.settings),
        "seed": trial.seed,
        **{name: run.final[name] for name in _KEPT if name in run.final},
        "curve": [[epoch["epoch"], epoch["top1"]] for epoch in run.epochs if "top1" in epoch],
        "parameters": run.facts["student_parameters"],
        "store": _store_facts(student.store, student.settings.get("views", VIEWS)) if student.store else None,
        "store_fingerprint": run.facts["store_fingerprint"],
        "config_hash": recipes.trial_hash(trial),
        "commit": commit,
        "command": recipes.trial_command(trial),
        "run": str(run.path),
        "machine": provenance["machine"],
        "date": provenance["date"],
        "versions": {name: provenance["versions"][name] for name in ("python", "torch", "timm")},
    }


def _store_facts(name: str, views: int | None) -> dict[str, Any]:
    """What a student's store holds and takes, of it the views that the student uses."""
    store = open_store(str(store_folder(name)))
    used = views or store.num_views
    each = store.num_bytes / store.stats.num_rows
    return {
        "name": name,
        "k": store.manifest.identity.codec.k,
        "views": used,
        "bytes_per_view": each,
        "bytes": each * used * store.num_samples,
        "tail_mass": store.stats.mean_tail_mass,
        "gradient_error": store.gradient_error_bound()[0],
    }


def teacher_facts() -> dict[str, Any]:
    """The teacher on the validation images: accuracy, confidence and the bounds of its bins of confidence."""
    store = open_store(str(store_folder("val")))
    confidence, accuracy = _confidence(), store.stats.accuracy
    assert accuracy is not None  # the study's images have labels
    return {
        "val_top1": 100 * accuracy,
        "val_confidence": float(confidence.mean()),
        "confidence_edges": np.quantile(confidence, np.linspace(0, 1, _BINS + 1)).tolist(),
        "fingerprint": store.manifest.identity.fingerprint,
        "weights_sha256": store.manifest.identity.teacher.weights_sha256,
    }


def top1_by_confidence(run: RunRecord) -> Sequence[float]:
    """A student's top-1, percent, in fifths of the validation images by the teacher's confidence, the least first."""
    student, source = build_teacher(f"local-dir:{Path(run.path) / 'model'}"), open_source(str(DATA / "student"), "val")
    # The crop that training validates with.
    policy = Fixed(crop_fraction=student.preprocessing.crop_fraction)
    right = view_logits(student, source, range(len(source)), 0, policy).argmax(1).numpy() == source.labels
    fifths = np.array_split(np.argsort(_confidence(), kind="stable"), _BINS)
    return [100 * float(right[rows].mean()) for rows in fifths]


def _confidence() -> Float[ndarray, "N"]:
    """The teacher's largest probability of each validation image, in the source's order."""
    store, source = open_store(str(store_folder("val"))), open_source(str(DATA / "student"), "val")
    return store.load_view(0)[store.rows(source.keys)].logprobs[:, 0].exp().double().numpy()
