"""study.md and study.html: what the runs that are in say, every number from study.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.study.analysis_sections import analysis_sections
from experiments.study.cache_sections import cache_sections
from experiments.study.claims import claim_sections
from experiments.study.evidence import Evidence
from experiments.study.exploratory import exploratory_sections
from pld.files import writing
from pld.report.page import render_sections
from pld.report.runs.page import landscape_section
from pld.report.sections import Section, Table, as_markdown

_HEADING = "Plackett-Luce distillation from a cache: the study"


def write_report(evidence: Evidence, folder: Path) -> list[Path]:
    """Write study.md and study.html into the folder; returns their paths."""
    introduction = [_status(evidence), _setting(evidence), _statistics()]
    sections = [
        *claim_sections(evidence),
        *cache_sections(evidence),
        *analysis_sections(evidence),
        *exploratory_sections(evidence),
    ]
    sections = [section for section in sections if section.tables or section.figures or section.paragraphs]
    surfaces = landscape_section(evidence.recipes.data.num_classes)
    page = render_sections(_HEADING, introduction, [*sections, surfaces, _sources(evidence), _provenance(evidence)])
    text = "\n\n".join([f"# {_HEADING}", _links(), *introduction, as_markdown([*sections, _sources(evidence)])])
    paths = {folder / "study.md": text, folder / "study.html": page}
    for path, content in paths.items():
        with writing(path):
            path.write_text(content)
    return list(paths)


def _links() -> str:
    return (
        "Written by `make study` from [study.json](study.json), like [its page](study.html), which has the "
        "figures, the "
        "loss surfaces and each run's command, commit and folder; no number here was typed. `make study-page` writes "
        "both anew."
    )


def _status(evidence: Evidence) -> str:
    done, planned = len(evidence.runs), evidence.num_planned
    others = f" {evidence.num_others} runs of other configurations are left out." if evidence.num_others else ""
    if done == planned:
        return f"All {planned} runs are in.{others}"
    return (
        f"Unfinished: {done} of {planned} runs are in. What is missing below is not in yet, and what is there has "
        f"fewer seeds than planned; make study goes on.{others}"
    )


def _setting(evidence: Evidence) -> str:
    data, teacher = evidence.recipes.data, evidence.facts["teacher"]
    recipe = {**evidence.recipes.student, **evidence.recipes.changed}
    parameters = sorted({run["parameters"] for run in evidence.runs if "model" not in run["settings"]})
    size = f" of {parameters[0]:,} parameters" if parameters else ""
    return (
        f"{data.num_classes} classes; the teacher learned from {data.sizes['teacher']:,} images, is right on "
        f"{teacher['val_top1']:.1f} % of the {data.sizes['val']:,} validation images, with a mean confidence of "
        f"{teacher['val_confidence']:.2f}. Each student{size} sees {data.sizes['student']:,} images of "
        f"{recipe['image_size']} pixels for {recipe['epochs']} epochs under one recipe ({recipe['opt']}, learning rate "
        f"{recipe['lr']:g}, batches of {recipe['batch_size']}), from a store of all classes and {recipe['views']} "
        "views unless said otherwise. Figures are validation top-1 in percent after the last epoch."
    )


def _statistics() -> str:
    return (
        "Intervals are Student's 95 % over seeds. Differences are paired by seed: the same order of images and "
        "the same "
        "initial weights on both sides; p is the exact two-sided sign-flip test's, which n seeds cannot bring below "
        "2 / 2^n. A difference counts as shown where its interval leaves 0 out. Nothing is corrected for the number of "
        "comparisons; what is marked exploratory has fewer seeds and supports no claim."
    )


def _sources(evidence: Evidence) -> Section:
    facts = evidence.facts
    rows = [["teacher", facts["teacher"].get("command", "-"), str(facts["teacher"].get("commit") or "-")]]
    rows += [[f"store {name}", store["command"], "-"] for name, store in facts.get("stores", {}).items()]
    machines = sorted({run["machine"] for run in evidence.runs})
    commits = sorted({str(run["commit"]) for run in evidence.runs})
    versions = sorted({json.dumps(run["versions"]) for run in evidence.runs})
    return Section(
        title="Where this comes from",
        paragraphs=[
            f"Machines: {'; '.join(machines) or 'none yet'}. Versions: {'; '.join(versions) or 'none yet'}. "
            f"Commits of the students: {', '.join(commits) or 'none yet'}. Each ran with OMP_NUM_THREADS=1.",
            "To run a row again: make study makes data, teacher and stores in runs/study; then the row's command, with "
            "another --output, gives the row's figure again on the same machine.",
        ],
        tables=[Table(columns=("what", "command", "commit"), rows=rows)],
    )


def _provenance(evidence: Evidence) -> Section:
    columns = ("run", "top-1 %", "command", "folder", "commit", "configuration", "date")
    return Section(title="Every run", tables=[Table(columns=columns, rows=_run_rows(evidence))])


def _run_rows(evidence: Evidence) -> Sequence[Sequence[str]]:
    names = ("command", "run", "commit", "config_hash", "date")
    return [[r["name"], f"{r['top1']:.2f}", *(str(r[name]) for name in names)] for r in evidence.runs]
