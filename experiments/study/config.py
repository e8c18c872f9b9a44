"""The options of `make study`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pld.errors import ConfigError

WORK = Path("runs/study")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Run what is missing of the study and write its tables and page; interrupted, the same command goes on.

    Attributes:
        data: a folder of tar shards, train-*.tar and val-*.tar
        out: the folder of study.json, study.md and study.html
        images: the students' images: the first shards that hold so many; the teacher learns from all
        seeds: of the comparisons that the study is about; exploratory ones have fewer
        jobs: runs at a time, each on one core
        rows: run only trials whose name matches this regular expression, such as '^main/'
        settings: settings of train_student.py for the teacher and all students, to make a smaller study
        report: only write the tables and the page of what is in study.json
    """

    data: str = ""
    out: str = "docs/results"
    images: int = 20_000
    seeds: int = 5
    jobs: int = 2
    rows: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    report: bool = False

    def __post_init__(self) -> None:
        if not self.data and not self.report:
            raise ConfigError("make study wants DATA=FOLDER, with tar shards train-*.tar and val-*.tar in it")
        for name in ("images", "seeds", "jobs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} {getattr(self, name)}: wanted at least 1")
