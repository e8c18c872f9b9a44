"""Sweeps, other baselines, temperatures, optimisers and another pair: fewer seeds, no claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from experiments.study.cache_sections import EXPLORATORY
from experiments.study.evidence import NAMES, Evidence, Values
from experiments.study.plan import swept
from pld.report.figures.charts import Line, line_chart
from pld.report.runs.comparison import summary_table
from pld.report.sections import Figure, Section, Table


def exploratory_sections(evidence: Evidence) -> list[Section]:
    """Those with runs."""
    return [*_sweeps(evidence), *_temperature(evidence), *_others(evidence)]


def _sweeps(evidence: Evidence) -> Iterator[Section]:
    values = evidence.all_values("sweep")
    lines, tables = [], []
    for method in ("kd", "dist"):
        tried = {label: settings["alpha"] for label, settings in swept(method).items() if label in values}
        points = [(alpha, list(values[label].values())) for label, alpha in tried.items()]
        if points:
            lines.append(Line(label=NAMES[method], points=points))
            tables.append(summary_table({label: values[label] for label in tried}, next(iter(tried))))
    if lines:
        yield Section(
            title="Sweeps of alpha",
            paragraphs=["One seed, 0, which only chose the alpha of the main comparison."],
            tables=tables,
            figures=[Figure(html=line_chart(lines, "alpha", "validation top-1, %"))],
        )


def _temperature(evidence: Evidence) -> Iterator[Section]:
    values = evidence.all_values("temperature")
    if len(values) > 1:
        points = [(float(label.removeprefix("T=")), list(seeds.values())) for label, seeds in values.items()]
        yield Section(
            title="PLD's temperature",
            paragraphs=[f"{EXPLORATORY} Of the teacher's weights; the student is never tempered."],
            tables=[summary_table(values, "T=1" if "T=1" in values else next(iter(values)))],
            figures=[Figure(html=line_chart([Line(label="PLD", points=points)], "T", "validation top-1, %"))],
        )


def _others(evidence: Evidence) -> Iterator[Section]:
    losses, values = evidence.all_values("baselines"), evidence.all_values("optimisers")
    names = dict.fromkeys(label.partition(", ")[2] for label in values)
    told = {
        "Other losses": ("Each at its authors' settings.", [losses | _pld_beside(evidence)]),
        "Another pair": (
            "A ConvNeXt, of another family than the teacher, learns from the same store.",
            [evidence.all_values("pair")],
        ),
        "Optimisers": (
            "Learning rates in the ratios of the paper's recipes here, none swept; weight decay the recipe's.",
            [{label: seeds for label, seeds in values.items() if label.endswith(f", {name}")} for name in names],
        ),
    }
    for title, (text, groups) in told.items():
        if tables := [_compared(group) for group in groups if len(group) > 1]:
            yield Section(title=title, paragraphs=[f"{EXPLORATORY} {text}"], tables=tables)


def _compared(group: Mapping[str, Values]) -> Table:
    """Each beside the last, PLD's where it is in."""
    named = {NAMES.get(label, label): seeds for label, seeds in group.items()}
    return summary_table(named, next(reversed(named)))


def _pld_beside(evidence: Evidence) -> dict[str, Values]:
    """PLD's of the main comparison, under the seeds that the other losses have."""
    seeds = evidence.experiments["baselines"].seeds
    found = {seed: top1 for seed, top1 in evidence.values("main", "pld").items() if seed in seeds}
    return {"pld": found} if found else {}
