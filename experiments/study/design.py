"""Which students the study trains, in which order, and what its sweeps choose. Pure."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

VIEWS = 8
TEACHER = "local-dir:runs/study/teacher/model"

# The sweeps' seed, which no other trial has: what is chosen on a run is not judged by it.
SWEEP_SEED = 0
_ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.9)
_K = (1, 5, 10, 20, 50)
_TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 4.0)
_LIVE: Mapping[str, Any] = {"online_teacher": True, "teacher": TEACHER, "store": None, "views": None}

# Ratios of learning rates as in the paper's recipes of this project (docs/decisions/0011-recipes.md).
_OPTIMISERS: Mapping[str, Mapping[str, Any]] = {
    "lamb": {"opt": "lamb", "lr": 1e-2},
    "adabelief": {"opt": "adabelief", "lr": 4e-3},
    "adan": {"opt": "adan", "lr": 2e-2},
}
_CONVNEXT: Mapping[str, Any] = {
    "model": "convnext_atto",
    "model_kwargs": {"patch_size": 4, "depths": [1, 1, 2, 1], "dims": [24, 48, 96, 128]},
    "lr": 2e-3,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Student:
    """One configuration of train_student.py, all but its seed.

    Attributes:
        method: its --loss.
        settings: what else differs from the recipe `study`.
        store: which store it learns from; None for a live teacher.
        ready: False until a sweep has chosen the settings.
    """

    method: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    store: str | None = "all"
    ready: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Students to compare with each other, under the same seeds.

    Attributes:
        name: in trials' names.
        students: by label.
        seeds: each student's.
    """

    name: str
    students: Mapping[str, Student]
    seeds: Sequence[int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One run: a student under a seed, with the first name that the design has for it."""

    experiment: str
    label: str
    student: Student
    seed: int

    @property
    def name(self) -> str:
        """Unique in the design."""
        return f"{self.experiment}/{self.label}/seed{self.seed}"


def swept(method: str) -> dict[str, Mapping[str, Any]]:
    """The settings that a method's sweep tries, by label; as the paper weighs the terms."""
    if method == "kd":
        return {f"kd alpha={a:g}": {"alpha": a, "temperature": 2.0} for a in _ALPHAS}
    halves = {a: round((1 - a) / 2, 4) for a in _ALPHAS}
    return {f"dist alpha={a:g}": {"alpha": a, "beta": half, "gamma": half} for a, half in halves.items()}


def best_settings(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Of each method whose sweep is complete, the settings with the highest top-1; of two level ones the first.

    Args:
        runs: as study.json has them, by whatever key.
    """
    best = {}
    for method in ("kd", "dist"):
        found = {
            run["name"].split("/")[1]: run["top1"]
            for run in runs.values()
            if run["name"].startswith("sweep/") and run["method"] == method
        }
        tried = swept(method)
        if set(tried) <= set(found):
            best[method] = tried[max(tried, key=lambda label: found[label])]
    return best


def design(num_classes: int, num_seeds: int, best: Mapping[str, Mapping[str, Any]]) -> list[Experiment]:
    """The whole study in the order in which it runs; of two experiments with one name the later holds the earlier.

    Args:
        num_classes: C of the data.
        num_seeds: of the comparisons that are not exploratory.
        best: of kd and dist, once their sweeps are done, the settings that won.
    """
    many, few, two = range(1, num_seeds + 1), range(1, min(num_seeds, 3) + 1), range(1, min(num_seeds, 2) + 1)
    tuned = {m: Student(method=m, settings=best.get(m, {}), ready=m in best) for m in ("kd", "dist")}
    pld = Student(method="pld")
    main = {"ce": Student(method="ce"), **tuned, "pld": pld}
    sweeps = {label: Student(method=m, settings=s) for m in ("kd", "dist") for label, s in swept(m).items()}
    exploring: dict[str, dict[str, Student]] = {
        "baselines": {m: Student(method=m) for m in ("ls", "dkd", "listmle", "plistmle")},
        "k": {**{f"k={k}": Student(method="pld", store=f"k{k}") for k in _K if k < num_classes}, "k=C": pld},
        "views": {
            "fixed crop, both": Student(method="pld", store="fixed", settings={"views": 1}),
            **{f"{v} view{'s' * (v > 1)}": Student(method="pld", settings={"views": v}) for v in (1, 2, 4)},
            "8 views": pld,
            "one per epoch": Student(method="pld", settings={"views": None}),
            "live teacher": Student(method="pld", store=None, settings=_LIVE),
        },
        "temperature": {
            f"T={t:g}": Student(method="pld", settings={} if t == 1 else {"temperature": t}) for t in _TEMPERATURES
        },
        "tail": {
            f"k={k}, {tail}": Student(method="pld", store=f"k{k}", settings={} if tail == "drop" else {"tail": tail})
            for k in (5, 10)
            if k < num_classes
            for tail in ("drop", "uniform")
        },
    }
    pairs = {m: dataclasses.replace(s, settings={**s.settings, **_CONVNEXT}) for m, s in main.items()}
    optimisers = {
        f"{m}, {name}": dataclasses.replace(main[m], settings={**main[m].settings, **settings})
        for name, settings in {"adamw": {}, **_OPTIMISERS}.items()
        for m in ("kd", "dist", "pld")
    }
    return [
        # What needs no sweep, so that there is something to look at early; the whole experiment follows.
        Experiment(name="main", students={"ce": main["ce"], "pld": pld}, seeds=many[:1]),
        Experiment(name="sweep", students=sweeps, seeds=[SWEEP_SEED]),
        Experiment(name="main", students=main, seeds=many),
        Experiment(
            name="cache",
            students={
                "view replay": pld,
                "teacher on a fixed crop": Student(method="pld", store="mismatched"),
                **({"k=50": Student(method="pld", store="k50")} if num_classes > 50 else {}),
            },
            seeds=many,
        ),
        *(Experiment(name=n, students=s, seeds=few) for n, s in exploring.items()),
        Experiment(name="pair", students=pairs, seeds=two),
        Experiment(name="optimisers", students=optimisers, seeds=two),
    ]


def trials(experiments: Sequence[Experiment]) -> Iterator[Trial]:
    """Every run once, seeds in turn within an experiment."""
    seen: list[tuple[Student, int]] = []
    for experiment in experiments:
        for seed, (label, student) in itertools.product(experiment.seeds, experiment.students.items()):
            if (student, seed) not in seen:
                seen.append((student, seed))
                yield Trial(experiment=experiment.name, label=label, student=student, seed=seed)
