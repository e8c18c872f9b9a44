"""The runs that are in, found by what the design asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.study.design import Trial, best_settings, design, trials
from experiments.study.recipe import Recipes

Values = dict[int, float]


class Evidence:
    """What is known so far.

    Attributes:
        facts: of the study as a whole, see Results.
        recipes: what was run.
        best: the settings that the sweeps chose, of the methods whose sweep is complete.
        experiments: by name.
        runs: of this design; others in study.json are counted in num_others.
    """

    def __init__(self, facts: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]], recipes: Recipes) -> None:
        self.facts, self.recipes, self.best = facts, recipes, best_settings(runs)
        planned = design(recipes.data.num_classes, facts["seeds"], self.best)
        self.experiments = {experiment.name: experiment for experiment in planned}
        wanted = list(trials(planned))
        hashes = [recipes.trial_hash(trial) for trial in wanted if trial.student.ready]
        self.num_planned = len(wanted)
        self.runs = [runs[key] for key in hashes if key in runs]
        self.num_others = len(runs) - len(self.runs)
        self._by_hash = runs

    def runs_of(self, experiment: str) -> dict[str, dict[int, Mapping[str, Any]]]:
        """The runs that are in of each student of an experiment that has one, by label and seed."""
        planned, found = self.experiments[experiment], {}
        for label, student in planned.students.items():
            wanted = [Trial(experiment="", label="", student=student, seed=s) for s in planned.seeds if student.ready]
            runs = {trial.seed: self._by_hash.get(self.recipes.trial_hash(trial)) for trial in wanted}
            if held := {seed: run for seed, run in runs.items() if run}:
                found[label] = held
        return found

    def values(self, experiment: str) -> dict[str, Values]:
        """Their top-1."""
        return {
            label: {s: float(r["top1"]) for s, r in runs.items()} for label, runs in self.runs_of(experiment).items()
        }
