"""Sweeps, other baselines, temperatures, optimisers and another pair: fewer seeds, no claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pld.report.charts import Line, line_chart
from pld.report.run_sections import summary_table
from pld.report.sections import Figure, Section
from pld.study.cache_sections import EXPLORATORY
from pld.study.evidence import NAMES, Evidence, Values
from pld.study.plan import swept


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
    losses = evidence.all_values("baselines")
    if losses and (pld := _same_seeds(evidence)):
        text = "Each at its authors' settings."
        yield _compared("Other losses", text, [{**losses, "pld": pld}])
    if pair := evidence.all_values("pair"):
        text = "A ConvNeXt, of another family than the teacher, learns from the same store."
        yield _compared("Another pair", text, [pair])
    if values := evidence.all_values("optimisers"):
        text = "Learning rates in the ratios of the paper's recipes here, none swept; weight decay the recipe's."
        names = dict.fromkeys(label.partition(", ")[2] for label in values)
        by_name = [{label: seeds for label, seeds in values.items() if label.endswith(f", {name}")} for name in names]
        yield _compared("Optimisers", text, by_name)


def _compared(title: str, text: str, groups: Sequence[Mapping[str, Values]]) -> Section:
    """A table for each group, each label beside the group's last one: PLD's where it is in."""
    named = [{NAMES.get(label, label): seeds for label, seeds in group.items()} for group in groups]
    tables = [summary_table(group, next(reversed(group))) for group in named]
    return Section(title=title, paragraphs=[f"{EXPLORATORY} {text}"], tables=tables)


def _same_seeds(evidence: Evidence) -> Values:
    """PLD's of the main comparison, under the seeds that the other losses have."""
    seeds = evidence.experiments["baselines"].seeds
    return {seed: top1 for seed, top1 in evidence.values("main", "pld").items() if seed in seeds}
