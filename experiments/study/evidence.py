"""The runs that are in, found by what the plan asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.study.plan import Experiment, Row, Student, plan, rows, swept
from experiments.study.recipe import Recipes

NAMES = {
    "ce": "CE",
    "ls": "LS",
    "kd": "KD",
    "dist": "DIST",
    "dkd": "DKD",
    "listmle": "ListMLE",
    "plistmle": "p-ListMLE",
    "pld": "PLD",
}

Values = dict[int, float]


class Evidence:
    """What is known so far.

    Attributes:
        facts: of the study as a whole, see Results.
        recipes: what was run.
        best: the settings that the sweeps chose, of the methods whose sweep is complete.
        experiments: by name.
    """

    def __init__(self, facts: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]], recipes: Recipes) -> None:
        self.facts, self.recipes = facts, recipes
        self.best = best_settings(runs)
        planned = plan(recipes.data.num_classes, facts["seeds"], self.best)
        self.experiments: dict[str, Experiment] = {experiment.name: experiment for experiment in planned}
        hashes = {row.name: recipes.row_hash(row) for row in rows(planned) if row.student.ready}
        self.num_planned = sum(1 for _ in rows(planned))
        self.runs = [runs[key] for key in hashes.values() if key in runs]
        self.num_others = len(runs) - len(self.runs)
        self._by_hash = runs

    def runs_of(self, experiment: str, label: str) -> dict[int, Mapping[str, Any]]:
        """The runs that are in of a student of an experiment, by seed."""
        planned = self.experiments[experiment]
        student = planned.students[label]
        keys = {seed: self._hash(student, seed) for seed in planned.seeds} if student.ready else {}
        return {seed: self._by_hash[key] for seed, key in keys.items() if key in self._by_hash}

    def values(self, experiment: str, label: str, figure: str = "top1") -> Values:
        """A figure of them, by seed."""
        return {seed: float(run[figure]) for seed, run in self.runs_of(experiment, label).items()}

    def all_values(self, experiment: str, figure: str = "top1") -> dict[str, Values]:
        """A figure of each student of an experiment that has a run, by label and seed."""
        found = {label: self.values(experiment, label, figure) for label in self.experiments[experiment].students}
        return {label: values for label, values in found.items() if values}

    def _hash(self, student: Student, seed: int) -> str:
        return self.recipes.row_hash(Row(experiment="", label="", student=student, seed=seed))


def best_settings(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Of each method whose sweep is complete, the settings with the highest top-1; of two level ones the first."""
    best = {}
    swept_runs = [run for run in list(runs.values()) if run["name"].startswith("sweep/")]
    for method in ("kd", "dist"):
        found = {run["name"].split("/")[1]: run["top1"] for run in swept_runs if run["method"] == method}
        tried = swept(method)
        if set(tried) <= set(found):
            best[method] = tried[max(tried, key=lambda label: found[label])]
    return best
