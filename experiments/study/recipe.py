"""From a row to its command and to the hash of all that its result depends on. Pure but for reading the recipes."""

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
from experiments.study.plan import TEACHER, VIEWS, Row
from pld.options import flatten
from pld.store.format.canonical import canonical_json, sha256_hex
from train_student.config import TrainConfig

# How and where a run works, which its result does not depend on.
_ELSEWHERE = frozenset({"data", "store", "val_store", "output", "workers", "tracker", "teacher"})
_LAUNCH = "accelerate launch --quiet train_student.py"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipes:
    """The recipes `study_teacher` and `study`, the settings that a smaller study has in their place, and the data.

    Attributes:
        teacher: settings of train_student.py.
        student: likewise.
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

    def row_hash(self, row: Row) -> str:
        """Of all that a row's result depends on but the machine."""
        student = row.student
        settings = {**self.student, **self.changed, **student.settings, "loss": student.method, "seed": row.seed}
        store = [student.store == "mismatched", *store_arguments(student.store, self)] if student.store else None
        teacher = {"teacher": self.teacher_hash(), "store": store}
        return _hash({"settings": _relevant(settings), "data": self.data.digests, **teacher})

    def teacher_command(self) -> str:
        """What makes the teacher."""
        return f"{_LAUNCH} --config study_teacher{_flags(self.changed)}"

    def row_command(self, row: Row) -> str:
        """What runs a row."""
        store = {} if row.student.store in ("all", None) else {"store": str(store_folder(row.student.store))}
        settings = {"loss": row.student.method, **self.changed, **store, **row.student.settings}
        return f"{_LAUNCH} --config study{_flags({**settings, 'seed': row.seed, 'output': str(self.run_folder(row))})}"

    def run_folder(self, row: Row) -> Path:
        """Where a row's run goes; another configuration goes elsewhere."""
        label = re.sub(r"[^a-z0-9.]+", "-", row.label.lower()).strip("-")
        return WORK / "students" / f"{label}-seed{row.seed}-{self.row_hash(row)[:8]}"


def read_recipes(folder: Path, changed: Mapping[str, Any], data: StudyData) -> Recipes:
    """The two recipes in the folder."""
    teacher, student = (
        flatten(TrainConfig, yaml.safe_load((folder / f"{name}.yaml").read_text()))
        for name in ("study_teacher", "study")
    )
    return Recipes(teacher=teacher, student=student, changed=changed, data=data)


def store_folder(name: str) -> Path:
    """Where a store goes."""
    return WORK / "stores" / name


def store_views(name: str, recipes: Recipes) -> int:
    """How many views a store shall hold."""
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
    """What makes a store."""
    if name == "mismatched":
        return "python -m experiments.study.mismatched"
    return shlex.join(["cache-teacher", *store_arguments(name, recipes), "--store", str(store_folder(name))])


def _relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _ELSEWHERE}


def _hash(value: Any) -> str:
    return sha256_hex(canonical_json(value))


def _flags(settings: Mapping[str, Any]) -> str:
    return "".join(f" --{name} {shlex.quote(_text(value))}" for name, value in settings.items())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
