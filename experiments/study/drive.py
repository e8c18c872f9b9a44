"""The study, whole: teacher, stores, every run that is missing, the page."""

from __future__ import annotations

import dataclasses
import re
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from experiments.study.config import WORK, StudyConfig
from experiments.study.data import StudyData, prepare_data
from experiments.study.design import Experiment, Trial, best_settings, design, trials
from experiments.study.launch import code_commit, launch
from experiments.study.measure import record, teacher_facts, top1_by_confidence
from experiments.study.recipe import read_recipes, store_command, store_folder, store_views
from experiments.study.report.evidence import Evidence
from experiments.study.report.page import write_report
from experiments.study.results import FILE, Results
from pld.config import parse_config
from pld.errors import ConfigError, DataError, PLDError, StoreError
from pld.progress import progress
from pld.report.runs.read import read_run
from pld.store import open_store

_HASH_FILE = "study_hash"


def main(argv: Sequence[str]) -> None:
    """The command."""
    config = parse_config(StudyConfig, argv, prog="python -m experiments.study", description=StudyConfig.__doc__ or "")
    results = Results(Path(config.out) / FILE)
    if config.report and not results.facts:
        raise DataError(f"{results.path}: no results; make study DATA=FOLDER makes some")
    study = None if config.report else Study(config, results)
    try:
        if study:
            study.run()
    finally:
        if results.runs or config.report:
            _write_report(results)


def _write_report(results: Results) -> None:
    facts = results.facts
    recipes = read_recipes(facts["changed"], StudyData(**facts["data"]))
    for path in write_report(Evidence(facts, results.runs, recipes), results.path.parent):
        print(f"written: {path}")


class Study:
    """The study of one DATA at one size, from what is in study.json to the end."""

    def __init__(self, config: StudyConfig, results: Results) -> None:
        self.config, self.results = config, results
        data = prepare_data(config.data, config.images)
        self.recipes = read_recipes(config.settings, data)
        self._making = threading.Lock()
        described = {"data": dataclasses.asdict(data), "seeds": config.seeds, "changed": config.settings}
        held = {name: results.facts.get(name) for name in described}
        if results.runs and held != described:
            raise ConfigError(f"{results.path}: is of {held}, this study of {described}; give another --out")
        results.note(**described)

    def run(self) -> None:
        """Make what is missing; raises PLDError where a command fails, and keeps what is in."""
        torch.set_num_threads(1)
        self._make_teacher()
        self._make_store("val")
        self.results.note(teacher={**self.results.facts.get("teacher", {}), **teacher_facts()})
        if failed := self._run_trials():
            raise PLDError("these runs failed, all others are in:\n" + "\n".join(map(str, failed.values())))

    def _run_trials(self) -> dict[str, PLDError]:
        """Run what is missing, an experiment after another; by hash, the errors of those that failed."""
        failed: dict[str, PLDError] = {}

        def run(trial: Trial) -> None:
            try:
                self._run_trial(trial)
            except PLDError as error:
                failed[self.recipes.trial_hash(trial)] = error
            bar.update()

        wanted = self._wanted()
        missing = sum(self.recipes.trial_hash(trial) not in self.results.runs for trial in wanted)
        with progress(missing, "study", "run") as bar, ThreadPoolExecutor(self.config.jobs) as pool:
            for experiment in [experiment.name for experiment in self._design()]:
                # Sweeps choose settings of the experiments after them.
                ready = [t for t in self._wanted() if t.experiment == experiment and t.student.ready]
                done = {*self.results.runs, *failed}
                list(pool.map(run, [t for t in ready if self.recipes.trial_hash(t) not in done]))
        return failed

    def _design(self) -> list[Experiment]:
        return design(self.recipes.data.num_classes, self.config.seeds, best_settings(self.results.runs))

    def _wanted(self) -> list[Trial]:
        return [trial for trial in trials(self._design()) if re.search(self.config.rows, trial.name)]

    def _run_trial(self, trial: Trial) -> None:
        if trial.student.store:
            self._make_store(trial.student.store)
        folder, commit = self.recipes.run_folder(trial), code_commit()
        if not _finished(folder, self.recipes.epochs):
            shutil.rmtree(folder, ignore_errors=True)
            launch(self.recipes.trial_command(trial), folder.name)
        run = read_run(folder)
        found = record(trial, run, self.recipes, commit)
        if trial.experiment == "main":
            found["top1_by_confidence"] = top1_by_confidence(run)
        with self._making:
            self.results.add(found)

    def _make_store(self, name: str) -> None:
        with self._making:
            for each in ("fixed", "all", name) if name == "mismatched" else (name,):
                command = store_command(each, self.recipes)
                if not _holds(store_folder(each), store_views(each, self.recipes)):
                    launch(command, f"store-{each}")
                stores = self.results.facts.get("stores", {})
                if each not in stores:
                    self.results.note(stores={**stores, each: {"command": command}})

    def _make_teacher(self) -> None:
        """Train it, or copy the one beside study.json: training on another machine gives another teacher."""
        folder, kept = WORK / "teacher", self.results.path.parent / "study_teacher"
        wanted, command = self.recipes.teacher_hash(), self.recipes.teacher_command()
        if _hash_in(folder) not in (None, wanted):
            raise ConfigError(f"{folder}: is another study's teacher; remove {WORK} to begin this study")
        if _hash_in(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            if _hash_in(kept) == wanted:
                shutil.copytree(kept, folder)
            else:
                commit = code_commit()
                launch(command, "teacher")
                (folder / _HASH_FILE).write_text(wanted)
                self.results.note(teacher={"command": command, "commit": commit})
        if _hash_in(kept) != wanted:
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("checkpoints"))


def _finished(folder: Path, epochs: int) -> bool:
    try:
        return int(read_run(folder).final["epoch"]) == epochs
    except DataError:
        return False


def _holds(folder: Path, views: int) -> bool:
    try:
        return open_store(str(folder)).num_views >= views
    except StoreError:
        return False


def _hash_in(folder: Path) -> str | None:
    path = folder / _HASH_FILE
    return path.read_text() if path.is_file() else None
