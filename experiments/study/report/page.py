"""study.md and study.html: what the runs that are in say, every number from study.json."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.study.report.evidence import Evidence
from experiments.study.report.sections import TEXT, named_section, sections
from pld.files import write_text
from pld.report.page import render_sections
from pld.report.runs.page import landscape_section
from pld.report.sections import Section, Table, as_markdown

_HEADING = "Plackett-Luce distillation from a cache: the study"
_LINKS = (
    "Written by `make study` from [study.json](study.json), like [its page](study.html), which has the figures, the "
    "loss surfaces and each run's command, commit and folder; no number here was typed. `make study-page` writes both "
    "anew."
)


def write_report(evidence: Evidence, folder: Path) -> None:
    """Write study.md and study.html into the folder, and print their paths."""
    introduction = [_status(evidence), *_introduction(evidence)]
    found, sources = sections(evidence), _sources(evidence)
    surfaces = landscape_section(evidence.recipes.data.num_classes)
    page = render_sections(_HEADING, introduction, [*found, surfaces, sources, _all_runs(evidence)])
    text = "\n\n".join([f"# {_HEADING}", _LINKS, *introduction, as_markdown([*found, sources])])
    for name, content in {"study.md": text, "study.html": page}.items():
        write_text(folder / name, content)
        print(f"written: {folder / name}")


def _status(evidence: Evidence) -> str:
    done, planned = len(evidence.runs), evidence.num_planned
    others = f" {evidence.num_others} runs of other configurations are left out." if evidence.num_others else ""
    if done == planned:
        return f"All {planned} runs are in.{others}"
    return (
        f"Unfinished: {done} of {planned} runs are in. What is missing below is not in yet, and what is there has "
        f"fewer seeds than planned; make study goes on.{others}"
    )


def _introduction(evidence: Evidence) -> list[str]:
    data, recipes = evidence.recipes.data, evidence.recipes
    parameters = min((run["parameters"] for run in evidence.runs if "model" not in run["settings"]), default=None)
    facts = {
        "num_classes": data.num_classes,
        "sizes": data.sizes,
        "teacher": evidence.facts["teacher"],
        "recipe": {**recipes.student, **recipes.changed},
        "parameters": f" of {parameters:,} parameters" if parameters else "",
    }
    return [paragraph.format(**facts) for paragraph in TEXT["introduction"]]


def _sources(evidence: Evidence) -> Section:
    teacher = evidence.facts["teacher"]
    rows = [["teacher", teacher.get("command", "-"), str(teacher.get("commit") or "-")]]
    rows += [[f"store {name}", store["command"], "-"] for name, store in evidence.facts.get("stores", {}).items()]
    said = {
        "machines": {run["machine"] for run in evidence.runs},
        "versions": {json.dumps(run["versions"]) for run in evidence.runs},
        "commits": {str(run["commit"]) for run in evidence.runs},
    }
    facts = {name: "; ".join(sorted(values)) or "none yet" for name, values in said.items()}
    return named_section("sources", tables=[Table(columns=("what", "command", "commit"), rows=rows)], **facts)


def _all_runs(evidence: Evidence) -> Section:
    columns = ("run", "top-1 %", "command", "folder", "commit", "configuration", "date")
    names = ("command", "run", "commit", "config_hash", "date")
    rows = [[run["name"], f"{run['top1']:.2f}", *(str(run[name]) for name in names)] for run in evidence.runs]
    return Section(title="Every run", tables=[Table(columns=columns, rows=rows)])
