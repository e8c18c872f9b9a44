"""The page about some runs: summary with intervals, curves, sweeps, loss surfaces, sizes, where from."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from pld.report.figures.charts import Line, dot_chart, line_chart
from pld.report.figures.landscape import surfaces_image
from pld.report.measures.landscape import TITLE, caption, paper_surfaces
from pld.report.page import render_sections
from pld.report.runs.comparison import summary_table
from pld.report.runs.groups import Group, find_differing_settings, find_sweeps, group_runs
from pld.report.runs.read import RunRecord
from pld.report.runs.table import RUN_COLUMNS, figure_text, left_out, run_rows
from pld.report.samples import Sample
from pld.report.sections import Figure, Section, Table
from pld.report.table import store_rows
from pld.store import Store

_STEPS = 31
_MAX_LANDSCAPE_CLASSES = 1000
_SURFACES_OF = ("pld", "dist")


def render_page(runs: Sequence[RunRecord], store: Store | None, samples: Sequence[Sample]) -> str:
    """HTML about some runs and the store that they share."""
    return render_sections(
        "Plackett-Luce distillation from cached logits",
        [],
        run_sections(runs),
        title=f"Plackett-Luce distillation: {', '.join(run.name for run in runs)}",
        columns=RUN_COLUMNS,
        rows=run_rows(runs),
        store=store_rows(store) if store else (),
        store_url=store.url if store else "",
        samples=samples,
    )


def run_sections(runs: Sequence[RunRecord]) -> list[Section]:
    """The sections, those with nothing to show left out."""
    groups = group_runs(runs)
    # By labels that tell them from the others, too.
    validated = [group for group in groups if group.values()]
    sections = [_summary(validated), _curves(validated), *_sweeps(validated)] if validated else []
    if any(group.settings["loss"] in _SURFACES_OF for group in groups):
        classes = min(int(runs[0].facts.get("num_classes", _MAX_LANDSCAPE_CLASSES)), _MAX_LANDSCAPE_CLASSES)
        sections.append(landscape_section(classes))
    lacking = [Section(title="Images left out", paragraphs=lines)] if (lines := left_out(runs)) else []
    return [*sections, *lacking, _sizes(groups), *_settings(groups), _provenance(runs)]


def landscape_section(num_classes: int) -> Section:
    """The paper's loss surfaces for so many classes; one random plane."""
    points, surfaces = paper_surfaces(num_classes, 0, _STEPS)
    return Section(
        title="Loss surfaces",
        paragraphs=[f"{TITLE}. {caption(num_classes, 0)}"],
        figures=[Figure(html=surfaces_image(surfaces, points), wide=True)],
    )


def _summary(groups: Sequence[Group]) -> Section:
    values = {group.label: group.values() for group in groups}
    paragraphs = ["Validation top-1, percent, after the last epoch."]
    if max(len(seeds) for seeds in values.values()) > 1:
        paragraphs.append(
            "Intervals are Student's, over seeds; differences are paired by seed, with an exact two-sided sign-flip p, "
            "which n seeds cannot bring below 2 / 2^n. Where a difference's interval holds 0, nothing is shown."
        )
    else:
        paragraphs.append("One seed each: differences smaller than the spread between seeds mean nothing.")
    chart = dot_chart({label: list(seeds.values()) for label, seeds in values.items()}, "validation top-1, %")
    table = summary_table(values, groups[0].label)
    return Section(title="Summary", paragraphs=paragraphs, tables=[table], figures=[Figure(html=chart)])


def _curves(groups: Sequence[Group]) -> Section:
    lines = [Line(label=group.label, points=_curve(group)) for group in groups]
    chart = line_chart(lines, "epoch", "validation top-1, %")
    text = "Means over seeds; bands reach from the lowest to the highest seed."
    many = any(len(group.runs) > 1 for group in groups)
    return Section(title="Learning curves", paragraphs=[text] if many else [], figures=[Figure(html=chart)])


def _curve(group: Group) -> list[tuple[float, list[float]]]:
    """Epoch and each validated run's top-1, of the epochs in which all of these were validated."""
    runs = [run for run in group.runs.values() if run.is_validated]
    curves = [{epoch["epoch"]: epoch["top1"] for epoch in run.epochs if "top1" in epoch} for run in runs]
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    return [(float(epoch), [float(curve[epoch]) for curve in curves]) for epoch in common]


def _sweeps(groups: Sequence[Group]) -> Iterator[Section]:
    for name, families in find_sweeps(groups).items():
        lines = []
        for family in families:
            points = [(float(group.settings[name]), list(group.values().values())) for group in family]
            lines.append(Line(label=str(family[0].settings["loss"]), points=points))
        chart = line_chart(lines, name, "validation top-1, %")
        yield Section(title=f"Sweep of {name}", figures=[Figure(html=chart)])


def _sizes(groups: Sequence[Group]) -> Section:
    def row(group: Group) -> list[str]:
        runs = list(group.runs.values())
        seconds = statistics.mean(run.final["seconds"] for run in runs)
        return [group.label, str(group.settings["model"]), f"{runs[0].facts['student_parameters']:,}", f"{seconds:.0f}"]

    columns = ("", "model", "parameters", "seconds")
    return Section(title="Sizes", tables=[Table(columns=columns, rows=[row(group) for group in groups])])


def _settings(groups: Sequence[Group]) -> Iterator[Section]:
    """What labels leave out: runs that are compared may differ in more than what tells them apart."""
    rows = [[name, *map(str, values)] for name, values in find_differing_settings(groups).items()]
    if rows:
        columns = ("", *(group.label for group in groups))
        yield Section(title="Settings that differ", tables=[Table(columns=columns, rows=rows)])


def _provenance(runs: Sequence[RunRecord]) -> Section:
    def row(run: RunRecord) -> list[str]:
        source = run.facts["provenance"]
        how = [source["command"], source["git_commit"] or "unknown", source["machine"], source["date"]]
        return [str(run.path), figure_text(run, "top1"), *how, source["versions"]["torch"]]

    columns = ("folder", "top-1 %", "command", "commit", "machine", "date", "torch")
    return Section(title="Where this comes from", tables=[Table(columns=columns, rows=[row(run) for run in runs])])
