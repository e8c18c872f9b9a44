"""A study.json that nobody ran: every run of the design with a top-1 that its label decides, or some of them."""

import dataclasses
import random
from pathlib import Path

from experiments.study.data import StudyData
from experiments.study.design import best_settings, design, trials
from experiments.study.recipe import Recipes, read_recipes
from experiments.study.results import Results

DATA = StudyData(
    digests={"teacher": "a", "student": "b", "val": "c"},
    sizes={"teacher": 50_000, "student": 20_000, "val": 5_000},
    num_classes=100,
)
# What each method's runs are drawn around.
TOP1 = {"ce": 30.0, "ls": 30.4, "kd": 33.0, "dist": 33.4, "dkd": 32.0, "listmle": 25.0, "plistmle": 33.0, "pld": 33.5}
SEEDS = 5


def recipes() -> Recipes:
    return read_recipes({}, DATA)


def write_study(path: Path, *, limit: int | None = None, noise: float = 0.2) -> Results:
    """As a study leaves it after `limit` runs, all of them if None."""
    results, made = Results(path), recipes()
    teacher = {
        "command": "accelerate launch --quiet train_student.py --config experiments/study/study_teacher.yaml",
        "commit": "f" * 40,
        "val_top1": 41.2,
        "val_confidence": 0.4,
        "confidence_edges": [0.05, 0.2, 0.3, 0.4, 0.6, 1.0],
    }
    stores = {"all": {"command": "cache-teacher --teacher t --data d --store runs/study/stores/all"}}
    results.note(data=dataclasses.asdict(DATA), seeds=SEEDS, changed={}, teacher=teacher, stores=stores)
    added: dict[str, dict] = {}
    # The design names the main comparison's settings once the sweeps are in.
    for _ in range(2):
        for trial in trials(design(DATA.num_classes, SEEDS, best_settings(added))):
            if trial.student.ready and (limit is None or len(added) < limit):
                record = _record(trial, made, noise)
                added.setdefault(record["config_hash"], record)
    results.runs = added
    results.note()
    return results


def _record(trial, made, noise):
    draw = random.Random(trial.name)
    top1 = TOP1[trial.student.method] + draw.gauss(0, noise)
    if trial.student.store == "mismatched":
        top1 -= 4
    store = trial.student.store
    k = int(store[1:]) if store and store.startswith("k") else DATA.num_classes
    return {
        "name": trial.name,
        "method": trial.student.method,
        "settings": dict(trial.student.settings),
        "seed": trial.seed,
        "top1": top1,
        "top5": top1 + 30,
        "nll": 2.5,
        "ece": 3.0,
        "agreement": 50.0,
        "kl": 0.5 + draw.random() / 10,
        "curve": [[epoch, top1 - 2 * (10 - epoch)] for epoch in (2, 4, 6, 8, 10)],
        "parameters": 321_980,
        "store": store and {"name": store, "k": k, "views": trial.student.settings.get("views") or 8,
                            "bytes_per_view": 20.0 + k, "bytes": (20.0 + k) * 160_000, "tail_mass": 1 / (1 + k),
                            "gradient_error": 2 / (1 + k)},
        "store_fingerprint": "0" * 64,
        "config_hash": made.trial_hash(trial),
        "commit": "e" * 40,
        "command": made.trial_command(trial),
        "run": str(made.run_folder(trial)),
        "machine": "a <machine>",
        "date": "2026-01-01T00:00:00+00:00",
        "versions": {"python": "3", "torch": "2", "timm": "1"},
        "top1_by_confidence": [top1 + 10 * (place - 2) for place in range(5)],
    }  # fmt: skip
