"""From a trial to its command and to the hash of all that its result depends on. Pure but for reading the recipes."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.study.config import WORK
from experiments.study.data import DATA, StudyData
from experiments.study.design import TEACHER, VIEWS, Trial
from pld.options import flatten
from pld.store.format.canonical import canonical_json, sha256_hex
from train_student.config import TrainConfig

# How and where a run works, which its result does not depend on.
_ELSEWHERE = frozenset({"data", "store", "val_store", "output", "workers", "tracker", "teacher"})
_FOLDER = "experiments/study"
_LAUNCH = f"accelerate launch --quiet train_student.py --config {_FOLDER}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipes:
    """The recipes of the teacher and of the students, the settings of a smaller study in their place, and the data.

    Attributes:
        teacher: study_teacher.yaml, settings of train_student.py.
        student: study.yaml, likewise.
        changed: --settings of the command.
        data: what is trained on.
    """

    teacher: Mapping[str, Any]
    student: Mapping[str, Any]
    changed: Mapping[str, Any]
    data: StudyData

    @property
    def epochs(self) -> int:
        """The students'."""
        return int({**self.student, **self.changed}["epochs"])

    def teacher_hash(self) -> str:
        """Of all that the teacher's weights depend on but the machine."""
        return _hash({"settings": _relevant({**self.teacher, **self.changed}), "data": self.data.digests["teacher"]})

    def trial_hash(self, trial: Trial) -> str:
        """Of all that a trial's result depends on but the machine."""
        student = trial.student
        settings = {**self.student, **self.changed, **student.settings, "loss": student.method, "seed": trial.seed}
        store = [student.store == "mismatched", *store_arguments(student.store, self)] if student.store else None
        teacher = {"teacher": self.teacher_hash(), "store": store}
        return _hash({"settings": _relevant(settings), "data": self.data.digests, **teacher})

    def teacher_command(self) -> str:
        """The command that makes the teacher."""
        return f"{_LAUNCH}/study_teacher.yaml{_flags(self.changed)}"

    def trial_command(self, trial: Trial) -> str:
        """The command that runs a trial."""
        store = {} if trial.student.store in ("all", None) else {"store": str(store_folder(trial.student.store))}
        settings = {"loss": trial.student.method, **self.changed, **store, **trial.student.settings}
        settings |= {"seed": trial.seed, "output": str(self.run_folder(trial))}
        return f"{_LAUNCH}/study.yaml{_flags(settings)}"

    def run_folder(self, trial: Trial) -> Path:
        """Where a trial's run goes; another configuration goes elsewhere."""
        label = re.sub(r"[^a-z0-9.]+", "-", trial.label.lower()).strip("-")
        return WORK / "students" / f"{label}-seed{trial.seed}-{self.trial_hash(trial)[:8]}"


def read_recipes(changed: Mapping[str, Any], data: StudyData) -> Recipes:
    """The two recipes beside this file."""
    files = (Path(__file__).with_name(name) for name in ("study_teacher.yaml", "study.yaml"))
    teacher, student = (flatten(TrainConfig, yaml.safe_load(file.read_text())) for file in files)
    return Recipes(teacher=teacher, student=student, changed=changed, data=data)


def store_folder(name: str) -> Path:
    """Where a store goes."""
    return WORK / "stores" / name


def store_views(name: str, recipes: Recipes) -> int:
    """How many views a store is to hold."""
    if name in ("val", "fixed"):
        return 1
    return max(VIEWS, recipes.epochs) if name == "all" else VIEWS


def store_arguments(name: str, recipes: Recipes) -> list[str]:
    """What a store depends on, as cache-teacher's arguments; `mismatched` is made from others, see mismatched.py."""
    k = int(name.removeprefix("k")) if name.startswith("k") else recipes.data.num_classes
    split, fixed = "val" if name == "val" else "train", name in ("val", "fixed")
    arguments: dict[str, int | str] = {"--teacher": TEACHER, "--data": str(DATA / "student"), "--split": split}
    arguments |= {"--views": store_views(name, recipes), "--k": k} | ({"--policy": "fixed"} if fixed else {})
    return [text for argument, value in arguments.items() for text in (argument, str(value))]


def store_command(name: str, recipes: Recipes) -> str:
    """The command that makes a store."""
    if name == "mismatched":
        return "python -m experiments.study.mismatched"
    return shlex.join(["cache-teacher", *store_arguments(name, recipes), "--store", str(store_folder(name))])


def _relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _ELSEWHERE}


def _hash(value: Any) -> str:
    return sha256_hex(canonical_json(value))


def _flags(settings: Mapping[str, Any]) -> str:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return "".join(f" --{name} {shlex.quote(text)}" for name, text in texts.items())
