"""One self-contained HTML page about some runs and the store that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pld.report.plots import learning_curves
from pld.report.runs import Run
from pld.report.samples import Sample
from pld.report.table import RUN_COLUMNS, SEED_COLUMNS, run_rows, seed_rows, store_rows
from pld.store import Store


def render_page(runs: Sequence[Run], store: Store | None, samples: Sequence[Sample]) -> str:
    """HTML with everything inside: no script, no font, no picture from elsewhere."""
    return render(
        "page.html.jinja",
        columns=RUN_COLUMNS,
        rows=run_rows(runs),
        seed_columns=SEED_COLUMNS,
        seeds=seed_rows(runs),
        curves=learning_curves(runs),
        store=store_rows(store) if store else [],
        store_url=store.url if store else "",
        samples=samples,
        runs=runs,
    )


def render(template: str, **values: Any) -> str:
    """A template of this package, filled in; text from runs and stores is text in it, not markup."""
    environment = Environment(loader=PackageLoader("pld.report"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(**values)
