"""Run folders as rows of a table, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence

from pld.losses import loss_names, needs_teacher
from pld.report.runs.comparison import interval_text
from pld.report.runs.groups import group_runs
from pld.report.runs.read import RunRecord
from pld.report.statistics import estimate

# What is compared first: on a phone the rest is scrolled to.
RUN_COLUMNS = ("run", "top-1 %", "top-5 %", "seconds", "loss", "teacher", "model", "parameters")

SEED_COLUMNS = ("configuration", "seeds", "mean top-1 %", "standard deviation", "95 % interval", "lowest to highest")

_COMBINED = {"average": "average of", "pick": "picked from"}


def run_rows(runs: Sequence[RunRecord]) -> list[tuple[str, ...]]:
    """One row of RUN_COLUMNS per run."""
    return [
        (
            run.name,
            figure_text(run, "top1"),
            figure_text(run, "top5"),
            f"{run.final['seconds']:.0f}",
            run.config["loss"],
            _teacher(run),
            run.config["model"],
            f"{run.facts['student_parameters']:,}",
        )
        for run in runs
    ]


def figure_text(run: RunRecord, name: str) -> str:
    """A figure of the last validation; a dash where the run has none."""
    return f"{run.final[name]:.2f}" if name in run.final else "-"


def seed_rows(runs: Sequence[RunRecord]) -> list[tuple[str, ...]]:
    """One row of SEED_COLUMNS for each configuration that ran under several seeds."""
    rows: list[tuple[str, ...]] = []
    for group in group_runs(runs):
        if len(top1 := list(group.values().values())) > 1:
            found = estimate(top1)
            spread, interval = interval_text(min(top1), max(top1)), interval_text(found.low, found.high)
            rows.append((group.label, str(found.num), f"{found.mean:.2f}", f"{found.deviation:.2f}", interval, spread))
    return rows


def left_out(runs: Sequence[RunRecord]) -> list[str]:
    """A line for each run that went on without some of its images."""
    lines = []
    for run in runs:
        counts = {
            "training images that the store lacks": run.facts.get("skipped_images", 0),
            "broken training images, each time it came to one in the last epoch": run.epochs[-1].get("bad_images", 0),
            "broken validation images": run.final.get("val_bad_images", 0),
        }
        if told := [f"{count:,} {what}" for what, count in counts.items() if count]:
            lines.append(f"{run.name} went on without {', '.join(told)}")
    return lines


def where_from(runs: Sequence[RunRecord]) -> str:
    """The machines and commits that runs come from, in a line."""
    sources = {(run.facts["provenance"]["machine"], run.facts["provenance"]["git_commit"]) for run in runs}
    return "; ".join(f"{machine}, commit {commit or 'unknown'}" for machine, commit in sorted(sources, key=str))


def _teacher(run: RunRecord) -> str:
    loss = run.config["loss"]
    if loss in loss_names() and not needs_teacher(loss):  # a plug-in's may not be installed here
        return "none"
    if run.config["online_teacher"]:
        return "live" if run.facts.get("labelled", True) else "live, without labels"
    stores, where = run.config.get("store"), "from the store"
    if isinstance(stores, list) and len(stores) > 1:
        where = f"{_COMBINED[run.config['combine']]} {len(stores)} stores"
    if run.facts.get("labelled") is False:
        where = f"{where}, without labels"
    return f"{where}, approximate" if run.facts.get("approximate_teacher") else where
