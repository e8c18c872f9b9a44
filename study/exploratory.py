"""Sweeps, other baselines, temperatures, optimisers and another pair: fewer seeds, no claims."""

from __future__ import annotations

from collections.abc import Iterator

from pld.report.charts import Line, line_chart
from pld.report.run_sections import summary_table
from pld.report.sections import Figure, Section
from study.cache_sections import EXPLORATORY
from study.evidence import NAMES, Evidence, Values
from study.plan import swept


def exploratory_sections(evidence: Evidence) -> list[Section]:
    """Those with runs."""
    return [*_sweeps(evidence), *_temperature(evidence), *_others(evidence)]


def _sweeps(evidence: Evidence) -> Iterator[Section]:
    values = evidence.all_values("sweep")
    lines = []
    for method in ("kd", "dist"):
        tried = {label: settings["alpha"] for label, settings in swept(method).items() if label in values}
        points = [(alpha, list(values[label].values())) for label, alpha in tried.items()]
        lines += [Line(label=NAMES[method], points=points)] if points else []
    if lines:
        yield Section(
            title="Sweeps of alpha",
            paragraphs=["One seed, 0, which only chose the alpha of the main comparison."],
            tables=[summary_table(values, next(iter(values)))],
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
    told = {
        "baselines": ("Other losses", "Each at its authors' settings."),
        "pair": ("Another pair", "A ConvNeXt of another family than the teacher learns from the same store."),
        "optimisers": (
            "Optimisers",
            "Learning rates in the ratios of the paper's recipes here, none swept; weight decay the recipe's.",
        ),
    }
    for experiment, (title, text) in told.items():
        values = evidence.all_values(experiment)
        if experiment == "baselines" and (pld := _same_seeds(evidence)):
            values = {**values, "pld": pld} if values else {}
        if len(values) > 1:
            base = next((label for label in reversed(values) if label.startswith("pld")), next(iter(values)))
            named = {NAMES.get(label, label): seeds for label, seeds in values.items()}
            yield Section(
                title=title,
                paragraphs=[f"{EXPLORATORY} {text}"],
                tables=[summary_table(named, NAMES.get(base, base))],
            )


def _same_seeds(evidence: Evidence) -> Values:
    """PLD's of the main comparison, under the seeds that the other losses have."""
    seeds = evidence.experiments["baselines"].seeds
    return {seed: top1 for seed, top1 in evidence.values("main", "pld").items() if seed in seeds}
