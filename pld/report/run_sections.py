"""What the page says of run folders: summary with intervals, curves, sweeps, loss surfaces, sizes, where from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from pld.report.figures.charts import Line, dot_chart, line_chart
from pld.report.figures.landscape import surfaces_image
from pld.report.measures.landscape import LOSSES, TITLE, caption, grid, random_plane, surface
from pld.report.runs.groups import Group, differing, group_runs, varied
from pld.report.runs.read import Run
from pld.report.runs.statistics import Difference, estimate, paired_difference
from pld.report.sections import Figure, Section, Table
from pld.report.table import figure_text, left_out

_STEPS = 31
_MAX_LANDSCAPE_CLASSES = 1000
# What is compared comes first: on a phone the rest is scrolled to.
SPREAD_COLUMNS = ("its interval", "p", "mean's interval", "deviation", "seeds")
_SURFACES_OF = ("pld", "dist")


def run_sections(runs: Sequence[Run]) -> list[Section]:
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
    plane = random_plane(num_classes, seed=0)
    points = grid(plane, _STEPS)
    surfaces = {name: surface(plane, loss, points) for name, loss in LOSSES.items()}
    image = surfaces_image(surfaces, points, title=TITLE, caption="")
    return Section(
        title="Loss surfaces",
        paragraphs=[f"{TITLE}. {caption(num_classes, 0)}"],
        figures=[Figure(html=image, wide=True)],
    )


def summary_table(values: Mapping[str, Mapping[int, float]], base: str) -> Table:
    """For each label: mean, spread and interval over seeds, and the difference from `base`, paired by seed."""
    columns = ("", "mean", f"less {base}", *SPREAD_COLUMNS)
    return Table(columns=columns, rows=[_summary_row(label, values[label], values[base]) for label in values])


def _summary_row(label: str, own: Mapping[int, float], base: Mapping[int, float]) -> list[str]:
    return comparison_cells(label, own, None if own is base else paired_difference(own, base))


def comparison_cells(label: str, own: Mapping[int, float], difference: Difference | None) -> list[str]:
    """A row whose columns end in SPREAD_COLUMNS: a mean, a difference and how sure both are."""
    found = estimate(list(own.values()))
    spread = f"{found.deviation:.2f}" if found.num > 1 else "-"
    sure = [interval_text(found.low, found.high), spread, str(found.num)]
    return [label, f"{found.mean:.2f}", *_difference_cells(difference), *sure]


def _difference_cells(found: Difference | None) -> list[str]:
    """Difference, interval and p as cells."""
    if found is None:
        return ["-", "-", "-"]
    interval = interval_text(found.estimate.low, found.estimate.high, signed=True)
    return [f"{found.estimate.mean:+.2f}", interval, f"{found.p:.3g}" if found.estimate.num > 1 else "-"]


def interval_text(low: float, high: float, *, signed: bool = False) -> str:
    """An interval as a cell; a dash where one seed gives none."""
    if math.isnan(low):
        return "-"
    return f"{low:+.2f} to {high:+.2f}" if signed else f"{low:.2f} to {high:.2f}"


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
    lines = [Line(label=group.label, points=_group_curve(group)) for group in groups]
    chart = line_chart(lines, "epoch", "validation top-1, %")
    text = "Means over seeds; bands reach from the lowest to the highest seed."
    many = any(len(group.runs) > 1 for group in groups)
    return Section(title="Learning curves", paragraphs=[text] if many else [], figures=[Figure(html=chart)])


def _group_curve(group: Group) -> list[tuple[float, list[float]]]:
    return curve_points([run for run in group.runs.values() if run.is_validated])


def curve_points(runs: Sequence[Run]) -> list[tuple[float, list[float]]]:
    """Epoch and each run's validation top-1, of the epochs in which all were validated."""
    curves = [{epoch["epoch"]: epoch["top1"] for epoch in run.epochs if "top1" in epoch} for run in runs]
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    return [(float(epoch), [float(curve[epoch]) for curve in curves]) for epoch in common]


def _sweeps(groups: Sequence[Group]) -> Iterator[Section]:
    for name, families in varied(groups).items():
        lines = [
            Line(
                label=str(family[0].settings["loss"]),
                points=[(float(group.settings[name]), list(group.values().values())) for group in family],
            )
            for family in families
        ]
        chart = line_chart(lines, name, "validation top-1, %")
        yield Section(title=f"Sweep of {name}", figures=[Figure(html=chart)])


def _sizes(groups: Sequence[Group]) -> Section:
    def row(group: Group) -> list[str]:
        runs = list(group.runs.values())
        seconds = sum(run.final["seconds"] for run in runs) / len(runs)
        return [group.label, str(group.settings["model"]), f"{runs[0].facts['student_parameters']:,}", f"{seconds:.0f}"]

    columns = ("", "model", "parameters", "seconds")
    return Section(title="Sizes", tables=[Table(columns=columns, rows=[row(group) for group in groups])])


def _settings(groups: Sequence[Group]) -> Iterator[Section]:
    """What labels leave out: runs that are compared may differ in more than what tells them apart."""
    rows = [[name, *map(str, values)] for name, values in differing(groups).items()]
    if rows:
        columns = ("", *(group.label for group in groups))
        yield Section(title="Settings that differ", tables=[Table(columns=columns, rows=rows)])


def _provenance(runs: Sequence[Run]) -> Section:
    def row(run: Run) -> list[str]:
        source = run.facts["provenance"]
        how = [source["command"], source["git_commit"] or "unknown", source["machine"], source["date"]]
        return [str(run.path), figure_text(run, "top1"), *how, source["versions"]["torch"]]

    columns = ("folder", "top-1 %", "command", "commit", "machine", "date", "torch")
    return Section(title="Where this comes from", tables=[Table(columns=columns, rows=[row(run) for run in runs])])
