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

    def runs_of(self, experiment: str, label: str) -> dict[int, Mapping[str, Any]]:
        """The runs that are in of a student of an experiment, by seed."""
        planned = self.experiments[experiment]
        student = planned.students[label]
        wanted = [Trial(experiment="", label="", student=student, seed=seed) for seed in planned.seeds if student.ready]
        found = {trial.seed: self._by_hash.get(self.recipes.trial_hash(trial)) for trial in wanted}
        return {seed: run for seed, run in found.items() if run}

    def values(self, experiment: str, label: str, figure: str = "top1") -> Values:
        """A figure of them, by seed."""
        return {seed: float(run[figure]) for seed, run in self.runs_of(experiment, label).items()}

    def all_values(self, experiment: str) -> dict[str, Values]:
        """Top-1 of each student of an experiment that has a run, by label and seed."""
        found = {label: self.values(experiment, label) for label in self.experiments[experiment].students}
        return {label: values for label, values in found.items() if values}
