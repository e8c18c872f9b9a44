"""The cache's own questions: view replay, k, views, tail, bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.study.claims import difference_sentence
from experiments.study.evidence import Evidence
from pld.report.figures.charts import Line, dot_chart, line_chart
from pld.report.runs.comparison import summary_table
from pld.report.runs.statistics import estimate, paired_difference
from pld.report.sections import Figure, Section, Table

EXPLORATORY = "Exploratory: few seeds."
_REPLAY = "view replay"


def cache_sections(evidence: Evidence) -> list[Section]:
    """All of them that have runs."""
    sections = [_claims(evidence), _sizes(evidence), _views(evidence), _tail(evidence), _bytes(evidence)]
    return [section for section in sections if section]


def _claims(evidence: Evidence) -> Section | None:
    values = evidence.all_values("cache")
    if len(values) < 2 or _REPLAY not in values:
        return None
    replay = values[_REPLAY]
    said = [
        difference_sentence("PLD from replayed views", name, paired_difference(replay, values[label]))
        for label, name in (
            ("teacher on a fixed crop", "PLD from a teacher that saw a fixed crop while the student sees random ones"),
            ("k=50", "PLD from the top 50 classes"),
        )
        if label in values
    ]
    chart = dot_chart({label: list(seeds.values()) for label, seeds in values.items()}, "validation top-1, %")
    return Section(
        title="View replay against a fixed crop, and k = 50 against all classes",
        paragraphs=said,
        tables=[summary_table(values, _REPLAY)],
        figures=[Figure(html=chart)],
    )


def _sizes(evidence: Evidence) -> Section | None:
    values = evidence.all_values("k")
    if len(values) < 2 or "k=C" not in values:
        return None
    stores = {label: _store(evidence, "k", label) for label in values}
    rows = [
        [label, f"{s['bytes_per_view']:.1f}", f"{100 * s['tail_mass']:.2f}", f"{s['gradient_error']:.3f}"]
        for label, s in stores.items()
    ]
    columns = ("", "bytes a view", "mass outside, %", "gradient's error at most")
    points = [(float(stores[label]["k"]), list(seeds.values())) for label, seeds in values.items()]
    chart = line_chart([Line(label="PLD", points=points)], "k", "validation top-1, %", logarithmic=True)
    return Section(
        title="How many classes to keep",
        paragraphs=[
            f"{EXPLORATORY} PLD at T = 1 from stores of the k most probable classes, C = {stores['k=C']['k']}. The "
            "mass "
            "outside the top k and the label is the mean over views; the error of the loss's gradient is its bound's "
            "mean, in L1."
        ],
        tables=[summary_table(values, "k=C"), Table(columns=columns, rows=rows)],
        figures=[Figure(html=chart)],
    )


def _views(evidence: Evidence) -> Section | None:
    values = evidence.all_values("views")
    base = "8 views"
    if len(values) < 2 or base not in values:
        return None
    chart = dot_chart({label: list(seeds.values()) for label, seeds in values.items()}, "validation top-1, %")
    return Section(
        title="How many views to keep",
        paragraphs=[
            f"{EXPLORATORY} 'fixed crop, both': teacher and student see the centre of each image, always. 'live "
            "teacher' "
            "runs the teacher in training, on new views in every epoch, drawn under another view seed than the store's."
        ],
        tables=[summary_table(values, base)],
        figures=[Figure(html=chart)],
    )


def _tail(evidence: Evidence) -> Section | None:
    values = evidence.all_values("tail")
    said, tables = [], []
    for dropped in (label for label in values if label.endswith(", drop")):
        k = dropped.partition(", ")[0]
        if uniform := values.get(f"{k}, uniform"):
            found = paired_difference(uniform, values[dropped])
            said.append(difference_sentence(f"At {k} a uniform tail", "a dropped one", found))
            tables.append(summary_table({dropped: values[dropped], f"{k}, uniform": uniform}, dropped))
    if not said:
        return None
    return Section(title="What to do with the tail", paragraphs=[f"{EXPLORATORY} " + " ".join(said)], tables=tables)


def _bytes(evidence: Evidence) -> Section | None:
    lines, rows = [], []
    for experiment, name in (("k", "fewer classes, 8 views"), ("views", "fewer views, all classes")):
        points = []
        for label, seeds in evidence.all_values(experiment).items():
            store = _store(evidence, experiment, label)
            if store and store["name"] != "fixed":
                each = store["bytes_per_view"] * store["views"]
                points.append((each, list(seeds.values())))
                mean = estimate(list(seeds.values())).mean
                rows.append((each, [f"{label}", f"{each:,.0f}", f"{store['bytes']:,.0f}", f"{mean:.2f}"]))
        lines += [Line(label=name, points=sorted(points))] if points else []
    if len(rows) < 2:
        return None
    cells = [row for _, row in sorted(rows)]
    return Section(
        title="Bytes against accuracy",
        paragraphs=[f"{EXPLORATORY} Bytes of a store in all, commits included, by image and for the students' images."],
        tables=[Table(columns=("", "bytes an image", "bytes", "mean top-1 %"), rows=cells)],
        figures=[Figure(html=line_chart(lines, "bytes an image", "validation top-1, %", logarithmic=True))],
    )


def _store(evidence: Evidence, experiment: str, label: str) -> Mapping[str, Any]:
    """What a student's store holds; empty for a live teacher."""
    return next(iter(evidence.runs_of(experiment, label).values()))["store"] or {}
