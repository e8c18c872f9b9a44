"""One self-contained HTML page about some runs and the store that they share, or about a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pld.report.run_sections import run_sections
from pld.report.runs.read import Run
from pld.report.samples import Sample
from pld.report.sections import Section
from pld.report.table import RUN_COLUMNS, run_rows, store_rows
from pld.store import Store


def render_page(runs: Sequence[Run], store: Store | None, samples: Sequence[Sample]) -> str:
    """HTML with everything inside: no script, no font, no picture from elsewhere."""
    return render(
        "page.html.jinja",
        title=f"Plackett-Luce distillation: {', '.join(run.name for run in runs)}",
        heading="Plackett-Luce distillation from cached logits",
        introduction=[],
        columns=RUN_COLUMNS,
        rows=run_rows(runs),
        sections=run_sections(runs),
        store=store_rows(store) if store else [],
        store_url=store.url if store else "",
        samples=samples,
    )


def render_sections(heading: str, introduction: Sequence[str], sections: Sequence[Section]) -> str:
    """A page of sections alone."""
    return render(
        "page.html.jinja",
        title=heading,
        heading=heading,
        introduction=introduction,
        columns=(),
        rows=(),
        sections=sections,
        store=[],
        store_url="",
        samples=[],
    )


def render(template: str, **values: Any) -> str:
    """A template of this package, filled in; text from runs and stores is text in it, not markup."""
    environment = Environment(loader=PackageLoader("pld.report"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(**values)
