"""The paper's analyses: the distance to the teacher that is left, and where the gain comes from."""

from __future__ import annotations

import itertools

from experiments.study.evidence import NAMES, Evidence, Values
from pld.report.figures.charts import Line, line_chart
from pld.report.runs.comparison import interval_text
from pld.report.runs.statistics import estimate, paired_difference
from pld.report.sections import Figure, Section, Table

_FIGURES = {"kl": "KL to the teacher, nats", "agreement": "agreement, %", "nll": "nll, nats", "ece": "ece, %"}
_BASELINE = "ce"


def analysis_sections(evidence: Evidence) -> list[Section]:
    """Both, as far as there are runs."""
    return [section for section in (_distance(evidence), _gain(evidence)) if section]


def _distance(evidence: Evidence) -> Section | None:
    rows = []
    for experiment in ("main", "baselines"):
        for method in evidence.experiments[experiment].students:
            found = {name: list(evidence.values(experiment, method, name).values()) for name in _FIGURES}
            if found["kl"]:
                cells = [_mean_text(values) for values in found.values()]
                rows.append((estimate(found["kl"]).mean, NAMES[method], [NAMES[method], str(len(found["kl"])), *cells]))
    if len(rows) < 2:
        return None
    nearest = min(rows)[1]
    best = max(evidence.all_values("main").items(), key=lambda item: estimate(list(item[1].values())).mean)[0]
    return Section(
        title="Final distance to the teacher",
        paragraphs=[
            "KL from the teacher's distribution to the student's at T = 1, and how often both choose the same class, "
            "on "
            f"the validation images; means over seeds, with their 95 % intervals' half widths. {nearest} ends nearest "
            f"to the teacher; the highest mean top-1 of the main comparison is {NAMES[best]}'s."
        ],
        tables=[Table(columns=("method", "seeds", *_FIGURES.values()), rows=[cells for _, _, cells in rows])],
    )


def _mean_text(values: list[float]) -> str:
    found = estimate(values)
    return f"{found.mean:.3f} ± {found.half_width:.3f}" if found.num > 1 else f"{found.mean:.3f}"


def _gain(evidence: Evidence) -> Section | None:
    methods = [m for m in evidence.experiments["main"].students if evidence.runs_of("main", m)]
    edges = evidence.facts["teacher"]["confidence_edges"]
    if _BASELINE not in methods or len(methods) < 2:
        return None
    bins = [f"{low:.2f} to {high:.2f}" for low, high in itertools.pairwise(edges)]
    rows, lines = (
        [["CE's top-1", *(_mean_text(list(_fifth(evidence, _BASELINE, b).values())) for b in range(len(bins)))]],
        [],
    )
    for method in methods:
        if method != _BASELINE:
            cells, points = [], []
            for place in range(len(bins)):
                base, own = _fifth(evidence, _BASELINE, place), _fifth(evidence, method, place)
                found = paired_difference(own, base)
                if found:
                    sure = found.estimate
                    wide = f" ({interval_text(sure.low, sure.high, signed=True)})" if sure.num > 1 else ""
                    cells.append(f"{sure.mean:+.2f}{wide}")
                    points.append((place + 1.0, [own[seed] - base[seed] for seed in sorted(own.keys() & base.keys())]))
            rows.append([f"{NAMES[method]} less CE", *cells])
            lines += [Line(label=NAMES[method], points=points)] if points else []
    return Section(
        title="Gain against the teacher's confidence",
        paragraphs=[
            "Validation images in fifths by the teacher's largest probability, least sure first: cross entropy's "
            "top-1, and what each method adds to it, in points, paired by seed."
        ],
        tables=[Table(columns=("", *bins), rows=rows)],
        figures=[Figure(html=line_chart(lines, "fifth, by the teacher's confidence", "points above CE"))]
        if lines
        else [],
    )


def _fifth(evidence: Evidence, method: str, place: int) -> Values:
    runs = evidence.runs_of("main", method)
    return {seed: run["top1_by_confidence"][place] for seed, run in runs.items()}
