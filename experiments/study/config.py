"""The options of `make study`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pld.errors import ConfigError
from pld.options import AT_LEAST_ONE, check_values, option

WORK = Path("runs/study")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Run what is missing of the study and write its tables and page; interrupted, the same command goes on."""

    data: str = option("", "a folder of tar shards, train-*.tar and val-*.tar")
    out: str = option("docs/results", "the folder of study.json, study.md and study.html")
    images: int = option(
        20_000,
        "the students' images: the first shards that hold so many; the teacher learns from all",
        check=AT_LEAST_ONE,
    )
    seeds: int = option(
        5, "of the comparisons that the study is about; exploratory ones have fewer", check=AT_LEAST_ONE
    )
    jobs: int = option(2, "runs at a time, each on one core", check=AT_LEAST_ONE)
    rows: str = option("", "run only trials whose name matches this regular expression, such as '^main/'")
    settings: dict[str, Any] = option(
        {}, "settings of train_student.py for the teacher and all students, to make a smaller study"
    )
    report: bool = option(False, "only write the tables and the page of what is in study.json")

    def __post_init__(self) -> None:
        if not self.data and not self.report:
            raise ConfigError("make study wants DATA=FOLDER, with tar shards train-*.tar and val-*.tar in it")
        check_values(self)
