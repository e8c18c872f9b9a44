"""One self-contained HTML page about a store: figures, coverage, bytes, tail mass, rank agreement, samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pld.errors import CorruptStoreError
from pld.report.figures.plots import agreement_curves, coverage_map, tail_mass_histogram
from pld.report.measures.agreement import measure_agreement
from pld.report.page import render
from pld.report.samples import Sample
from pld.report.table import store_rows
from pld.store import Store


def render_store_page(store: Store, samples: Sequence[Sample]) -> str:
    """HTML with everything inside. A store that is unfinished or has lost parts has a page too, with what can be said.

    Args:
        store: the store.
        samples: a sheet, or nothing.
    """
    codec, stats = store.manifest.identity.codec, store.stats
    num_views, problem = _num_views(store)
    truncated = not codec.holds_all(store.manifest.identity.teacher.num_classes)
    agreement = measure_agreement(store) if num_views else None
    return render(
        "store.html.jinja",
        title=store.url,
        problem=problem,
        rows=store_rows(store) if num_views else [],
        coverage=coverage_map(store) if store.layout.blocks else "",
        coverage_text=_coverage_text(store),
        bytes=_byte_rows(store),
        k=codec.k,
        labelled=store.is_labelled,
        tail_mass=tail_mass_histogram(stats) if truncated and stats.num_rows else "",
        agreement=agreement,
        agreement_plot=agreement_curves(agreement) if agreement else "",
        samples=samples,
        provenance=[(name, _as_text(value)) for name, value in store.manifest.provenance.items()],
    )


def _num_views(store: Store) -> tuple[int, str]:
    """How many views can be read, and what is wrong if none can."""
    try:
        return store.num_views, "" if store.num_views else "Its first views are not complete yet."
    except CorruptStoreError as error:
        return 0, str(error)


def _coverage_text(store: Store) -> str:
    found, manifest = store.layout, store.manifest
    parts, blocks = len(manifest.shards) * len(found.blocks), len(found.blocks)
    text = f"{len(found.committed):,} of {parts:,} parts are committed, {len(found.sealed)} of {blocks} blocks sealed"
    for lost, words in ((False, "not cached yet"), (True, "lost: cache or copy them again")):
        if count := sum(len(found.missing(b, manifest)) for b in found.blocks if (b in found.sealed) == lost):
            text += f"; {count:,} {words}"
    return text + "."


def _byte_rows(store: Store) -> list[tuple[str, int, float, float]]:
    """Name, bytes, bytes per sample-view and share, the largest first."""
    spent, num_rows = store.array_bytes, store.stats.num_rows
    total = spent.total()
    return [(name, number, number / num_rows, number / total) for name, number in spent.most_common() if num_rows]


def _as_text(value: Any) -> str:
    """Free JSON, an object's fields one after another."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_as_text(field)}" for name, field in value.items())
    return str(value)
