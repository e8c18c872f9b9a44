"""The study's sections: tables and figures of the runs that are in, under the words of text.yaml."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.study.design import swept
from experiments.study.report.evidence import Evidence, Values
from pld.losses import loss_names
from pld.report.figures.charts import Line, dot_chart, line_chart
from pld.report.runs.comparison import SPREAD_COLUMNS, comparison_cells, interval_text, summary_table
from pld.report.sections import Figure, Section, Table
from pld.report.statistics import estimate, paired_difference

NAMES = {name: name.upper() for name in loss_names()} | {"listmle": "ListMLE", "plistmle": "p-ListMLE"}
TEXT: Mapping[str, Any] = yaml.safe_load((Path(__file__).parent / "text.yaml").read_text())
_TOP1 = "validation top-1, %"
_FIGURES = {"kl": "KL to the teacher, nats", "agreement": "agreement, %", "nll": "nll, nats", "ece": "ece, %"}


def sections(evidence: Evidence) -> list[Section]:
    """Those that have runs."""
    parts = [
        _main(evidence),
        _compared(evidence, "cache", "view replay"),
        _classes(evidence),
        _compared(evidence, "views", "8 views"),
        _tail(evidence),
        _bytes(evidence),
        _distance(evidence),
        _gain(evidence),
        _sweeps(evidence),
        _compared(evidence, "temperature", "T=1", lambda v: _curve({float(t[2:]): own for t, own in v.items()}, "T")),
        _others(evidence),
    ]
    return list(itertools.chain.from_iterable(parts))


def named_section(key: str, *, tables: Sequence[Table] = (), charts: Sequence[str] = (), **facts: Any) -> Section:
    """A section under its title and text in text.yaml."""
    figures = [Figure(html=chart) for chart in charts]
    return Section(
        title=TEXT[key]["title"], paragraphs=[TEXT[key]["text"].format(**facts)], tables=tables, figures=figures
    )


def _main(evidence: Evidence) -> Iterator[Section]:
    found = evidence.values("main") | {"ls": evidence.values("baselines").get("ls", {})}
    values = {method: found[method] for method in ("ce", "ls", "kd", "dist", "pld") if found.get(method)}
    if "pld" not in values:
        return
    differences = {m: paired_difference(values["pld"], own) for m, own in values.items() if m != "pld"}
    rows = [comparison_cells(_tuned_name(evidence, m), own, differences.get(m)) for m, own in values.items()]
    curves = []
    for method, runs in evidence.runs_of("main").items():
        epochs = zip(*(run["curve"] for run in runs.values()), strict=True)
        points = [(float(each[0][0]), [top1 for _, top1 in each]) for each in epochs]
        curves.append(Line(label=NAMES[method], points=points))
    yield named_section(
        "main",
        tables=[Table(columns=("method", "mean", "PLD less it", *SPREAD_COLUMNS), rows=rows)],
        charts=[_dots({NAMES[m]: own for m, own in values.items()}), line_chart(curves, "epoch", _TOP1)],
    )
    if any(found and found.estimate.low <= 0 for found in differences.values()):
        yield named_section("examined")


def _tuned_name(evidence: Evidence, method: str) -> str:
    """A method with the alpha that its sweep chose."""
    chosen = evidence.best.get(method)
    return f"{NAMES[method]} (alpha {chosen['alpha']:g})" if chosen else NAMES[method]


def _compared(
    evidence: Evidence, experiment: str, base: str, chart: Callable[[Mapping[str, Values]], str] | None = None
) -> Iterator[Section]:
    values = evidence.values(experiment)
    if len(values) > 1 and base in values:
        drawn = (chart or _dots)(values)
        yield named_section(experiment, tables=[summary_table(values, base)], charts=[drawn])


def _classes(evidence: Evidence) -> Iterator[Section]:
    values = evidence.values("k")
    if len(values) > 1 and "k=C" in values:
        stores = _stores(evidence, "k")
        rows = [
            [label, f"{s['bytes_per_view']:.1f}", f"{100 * s['tail_mass']:.2f}", f"{s['gradient_error']:.3f}"]
            for label, s in stores.items()
        ]
        held = Table(columns=("", "bytes a view", "mass outside, %", "gradient's error at most"), rows=rows)
        chart = _curve({stores[label]["k"]: seeds for label, seeds in values.items()}, "k", logarithmic=True)
        tables = [summary_table(values, "k=C"), held]
        yield named_section("k", tables=tables, charts=[chart], num_classes=stores["k=C"]["k"])


def _tail(evidence: Evidence) -> Iterator[Section]:
    by_k = _grouped(evidence.values("tail"), 0)
    if tables := [summary_table(pair, f"{k}, drop") for k, pair in by_k.items() if len(pair) > 1]:
        yield named_section("tail", tables=tables)


def _bytes(evidence: Evidence) -> Iterator[Section]:
    lines, rows = [], []
    for experiment, name in (("k", "fewer classes, 8 views"), ("views", "fewer views, all classes")):
        points, values = [], evidence.values(experiment)
        for label, store in _stores(evidence, experiment).items():
            if store["name"] != "fixed":
                each, top1 = store["bytes_per_view"] * store["views"], list(values[label].values())
                points.append((each, top1))
                cells = [label, f"{each:,.0f}", f"{store['bytes']:,.0f}", f"{estimate(top1).mean:.2f}"]
                rows.append((each, cells))
        lines += [Line(label=name, points=sorted(points))] if points else []
    if len(rows) > 1:
        columns = ("", "bytes an image", "bytes", "mean top-1 %")
        table = Table(columns=columns, rows=[cells for _, cells in sorted(rows)])
        yield named_section("bytes", tables=[table], charts=[line_chart(lines, columns[1], _TOP1, logarithmic=True)])


def _distance(evidence: Evidence) -> Iterator[Section]:
    rows = []
    for experiment in ("main", "baselines"):
        for method, runs in evidence.runs_of(experiment).items():
            cells = [_mean_text([run[figure] for run in runs.values()]) for figure in _FIGURES]
            rows.append([NAMES[method], str(len(runs)), *cells])
    if len(rows) > 1:
        yield named_section("distance", tables=[Table(columns=("method", "seeds", *_FIGURES.values()), rows=rows)])


def _gain(evidence: Evidence) -> Iterator[Section]:
    runs = evidence.runs_of("main")
    if "ce" not in runs or len(runs) < 2:
        return
    edges = evidence.facts["teacher"]["confidence_edges"]
    fifths = {m: [{s: r["top1_by_confidence"][i] for s, r in runs[m].items()} for i in range(5)] for m in runs}
    rows = [["CE's top-1", *(_mean_text(list(values.values())) for values in fifths["ce"])]]
    lines = []
    for method in [method for method in runs if method != "ce"]:
        cells, points = [], []
        for place, (own, base) in enumerate(zip(fifths[method], fifths["ce"], strict=True)):
            if found := paired_difference(own, base):
                interval = interval_text(found.estimate.low, found.estimate.high, signed=True)
                cells.append(f"{found.estimate.mean:+.2f}" + (f" ({interval})" if found.estimate.num > 1 else ""))
                points.append((place + 1.0, [own[seed] - base[seed] for seed in sorted(own.keys() & base.keys())]))
        rows.append([f"{NAMES[method]} less CE", *cells])
        lines.append(Line(label=NAMES[method], points=points))
    table = Table(columns=("", *(f"{low:.2f} to {high:.2f}" for low, high in itertools.pairwise(edges))), rows=rows)
    chart = line_chart(lines, "fifth, by the teacher's confidence", "points above CE")
    yield named_section("gain", tables=[table], charts=[chart])


def _sweeps(evidence: Evidence) -> Iterator[Section]:
    values, lines, tables = evidence.values("sweep"), [], []
    for method in ("kd", "dist"):
        tried = {label: settings["alpha"] for label, settings in swept(method).items() if label in values}
        if tried:
            points = [(alpha, list(values[label].values())) for label, alpha in tried.items()]
            lines.append(Line(label=NAMES[method], points=points))
            tables.append(summary_table({label: values[label] for label in tried}, next(iter(tried))))
    if lines:
        yield named_section("sweep", tables=tables, charts=[line_chart(lines, "alpha", _TOP1)])


def _others(evidence: Evidence) -> Iterator[Section]:
    """Each student beside the last of its group, which is PLD where that is in."""
    seeds = evidence.experiments["baselines"].seeds
    beside = {seed: top1 for seed, top1 in evidence.values("main").get("pld", {}).items() if seed in seeds}
    groups = {
        "baselines": [evidence.values("baselines") | ({"pld": beside} if beside else {})],
        "pair": [evidence.values("pair")],
        "optimisers": list(_grouped(evidence.values("optimisers"), 1).values()),
    }
    for key, compared in groups.items():
        named = [{NAMES.get(label, label): own for label, own in group.items()} for group in compared]
        if tables := [summary_table(group, next(reversed(group))) for group in named if len(group) > 1]:
            yield named_section(key, tables=tables)


def _grouped(values: Mapping[str, Values], part: int) -> dict[str, dict[str, Values]]:
    """By one of the two parts of labels such as `k=5, drop`."""
    groups: dict[str, dict[str, Values]] = {}
    for label, seeds in values.items():
        groups.setdefault(label.split(", ")[part], {})[label] = seeds
    return groups


def _dots(values: Mapping[str, Values]) -> str:
    return dot_chart({label: list(seeds.values()) for label, seeds in values.items()}, _TOP1)


def _curve(values: Mapping[float, Values], xlabel: str, *, logarithmic: bool = False) -> str:
    points = [(float(x), list(seeds.values())) for x, seeds in values.items()]
    return line_chart([Line(label="PLD", points=points)], xlabel, _TOP1, logarithmic=logarithmic)


def _mean_text(values: Sequence[float]) -> str:
    found = estimate(values)
    return f"{found.mean:.3f} ± {found.half_width:.3f}" if found.num > 1 else f"{found.mean:.3f}"


def _stores(evidence: Evidence, experiment: str) -> dict[str, Mapping[str, Any]]:
    """What each student's store holds, by label; without live teachers."""
    first = {label: next(iter(runs.values())) for label, runs in evidence.runs_of(experiment).items()}
    return {label: run["store"] for label, run in first.items() if run["store"]}
