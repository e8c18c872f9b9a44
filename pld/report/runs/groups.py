"""Runs that differ in nothing but their seed, as one configuration. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pld.report.runs.read import RunRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """One configuration.

    Attributes:
        label: its loss, and what little else tells it from the other groups.
        settings: all its settings but the seed.
        runs: by seed.
    """

    label: str
    settings: Mapping[str, Any]
    runs: Mapping[int, RunRecord]

    def values(self, name: str = "top1") -> dict[int, float]:
        """A figure of the last validation, by seed; of runs without one none."""
        return {seed: float(run.final[name]) for seed, run in self.runs.items() if name in run.final}


def group_runs(runs: Sequence[RunRecord]) -> list[Group]:
    """The configurations in the order of their first run; a folder named twice counts once.

    A second run of one configuration and seed is a configuration of its own, named by its folder.
    """
    members: dict[str, dict[int, RunRecord]] = {}
    distinct = {run.path.resolve() if isinstance(run.path, Path) else run.path: run for run in runs}
    for run in distinct.values():
        settings, seed = {name: value for name, value in run.config.items() if name != "seed"}, run.config["seed"]
        if seed in members.get(json.dumps(settings, sort_keys=True), {}):
            settings["output"] = str(run.path)
        members.setdefault(json.dumps(settings, sort_keys=True), {})[seed] = run
    found = [json.loads(key) for key in members]
    return [
        Group(label=_label(settings, found), settings=settings, runs=dict(sorted(group.items())))
        for settings, group in zip(found, members.values(), strict=True)
    ]


def find_sweeps(groups: Sequence[Group]) -> dict[str, list[list[Group]]]:
    """Find sweeps: for each numeric setting, families of two or more groups that differ in it alone."""
    names = sorted({name for group in groups for name, value in group.settings.items() if _is_number(value)})
    result = {}
    for name in names:
        families: dict[str, list[Group]] = {}
        for group in groups:
            if _is_number(group.settings.get(name)):
                rest = {other: value for other, value in group.settings.items() if other != name}
                families.setdefault(json.dumps(rest, sort_keys=True), []).append(group)
        if swept := [sorted(f, key=lambda g: float(g.settings[name])) for f in families.values() if len(f) > 1]:
            result[name] = swept
    return result


def find_differing_settings(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The settings, the loss aside, in which groups differ: each one's value by group, None where it has none."""
    names = sorted({name for group in groups for name in group.settings} - {"loss"})
    values = {name: [group.settings.get(name) for group in groups] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def _label(settings: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """As little as tells it from the others: of the settings that do, the ones that are shortest to say."""
    words = [str(settings["loss"])]
    rivals = [other for other in others if other != settings and other["loss"] == settings["loss"]]
    told = {name: value for name, value in settings.items() if value is not None and value is not False and value != {}}
    said = {name: f"{name} {value}" for name, value in told.items()}
    for name in sorted(said, key=lambda name: (len(said[name]), name)):
        alike = [rival for rival in rivals if rival.get(name) == settings[name]]
        if len(alike) < len(rivals):
            words.append(said[name])
            rivals = alike
    return ", ".join(words)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
