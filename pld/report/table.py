"""Runs and their store as rows of a table, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence

from pld.report.runs.groups import group_runs
from pld.report.runs.read import Run
from pld.report.runs.statistics import estimate
from pld.store import Store

# What is compared first: on a phone the rest is scrolled to.
RUN_COLUMNS = ("run", "top-1 %", "top-5 %", "seconds", "loss", "teacher", "model", "parameters")

SEED_COLUMNS = ("configuration", "seeds", "mean top-1 %", "standard deviation", "95 % interval", "lowest to highest")

_COMBINED = {"average": "average of", "pick": "picked from"}

# Bytes of a float16 in a dense store, to compare with.
_DENSE_BYTES = 2


def run_rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """One row of RUN_COLUMNS per run."""
    return [
        (
            run.name,
            figure_text(run, "top1"),
            figure_text(run, "top5"),
            f"{run.final['seconds']:.0f}",
            run.config["loss"],
            _teacher(run),
            run.config["model"],
            f"{run.facts['student_parameters']:,}",
        )
        for run in runs
    ]


def figure_text(run: Run, name: str) -> str:
    """A figure of the last validation; a dash where the run has none."""
    return f"{run.final[name]:.2f}" if name in run.final else "-"


def seed_rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """One row of SEED_COLUMNS for each configuration that ran under several seeds."""
    rows: list[tuple[str, ...]] = []
    for group in group_runs(runs):
        if len(top1 := list(group.values().values())) > 1:
            found = estimate(top1)
            spread, interval = f"{min(top1):.2f} to {max(top1):.2f}", f"{found.low:.2f} to {found.high:.2f}"
            rows.append((group.label, str(found.num), f"{found.mean:.2f}", f"{found.deviation:.2f}", interval, spread))
    return rows


def left_out(runs: Sequence[Run]) -> list[str]:
    """A line for each run that went on without some of its images."""
    lines = []
    for run in runs:
        counts = {
            "training images that the store lacks": run.facts.get("skipped_images", 0),
            "broken training images, each time it came to one in the last epoch": run.epochs[-1].get("bad_images", 0),
            "broken validation images": run.final.get("val_bad_images", 0),
        }
        if told := [f"{count:,} {what}" for what, count in counts.items() if count]:
            lines.append(f"{run.name} went on without {', '.join(told)}")
    return lines


def where_from(runs: Sequence[Run]) -> str:
    """The machines and commits that runs come from, in a line."""
    sources = {(run.facts["provenance"]["machine"], run.facts["provenance"]["git_commit"]) for run in runs}
    return "; ".join(f"{machine}, commit {commit or 'unknown'}" for machine, commit in sorted(sources, key=str))


def store_rows(store: Store) -> list[tuple[str, str]]:
    """Facts about a store, name and value, from its manifest and commits alone."""
    teacher, codec, stats = store.manifest.identity.teacher, store.manifest.identity.codec, store.stats
    mean_error, high_error = store.gradient_error_bound()
    later = stats.num_rows - store.num_views * store.num_samples
    unfinished = f" complete, and {later:,} sample-views of later ones" if later else ""
    decoder = ", decoded by nvJPEG" if store.manifest.identity.views.decoder == "nvjpeg" else ""
    skipped = f" ({len(store.skipped)} skipped: {', '.join(store.skipped[:3])})" if store.skipped else ""
    return [
        ("teacher", f"{teacher.name}{'.' if teacher.tag else ''}{teacher.tag}, {teacher.precision}"),
        *_class_rows(store),
        ("samples", f"{store.num_samples:,}{skipped}"),
        ("views", f"{store.num_views}{unfinished}, top {codec.k} of {teacher.num_classes} classes for each{decoder}"),
        ("teacher's top-1", f"{100 * stats.accuracy:.2f} % on these views"),
        ("tail mass", f"{100 * stats.mean_tail_mass:.3g} % of probability is outside the top {codec.k} and the label"),
        ("gradient error", f"at most {mean_error:.3g} on average, {high_error:.3g} for 95 % (L1, PLD at T = 1)"),
        ("size", f"{store.num_bytes:,} bytes, {store.num_bytes / stats.num_rows:.1f} per view"),
        ("as float16", f"{_DENSE_BYTES * teacher.num_classes} bytes per view, all classes"),
        ("fingerprint", store.manifest.identity.fingerprint),
    ]


def _class_rows(store: Store) -> list[tuple[str, str]]:
    """Which of the model's classes are kept, where the model has others or another order."""
    class_map, stats = store.manifest.identity.teacher.class_map, store.stats
    if class_map is None:
        return []
    if len(class_map.columns) == class_map.model_classes:
        return [("classes", f"the model's {class_map.model_classes}, in the dataset's order")]
    kept = f"{len(class_map.columns)} of the model's {class_map.model_classes}, matched by name and renormalised"
    mass = f"{100 * stats.mean_unmapped_mass:.3g} % of its probability was on the others"
    return [("classes", kept), ("left out", mass)]


def as_text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: text to the left, numbers to the right."""
    table = [tuple(columns), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    columns_of = list(zip(widths, numeric, strict=True))

    def line(row: Sequence[str]) -> str:
        cells = [c.rjust(w) if right else c.ljust(w) for c, (w, right) in zip(row, columns_of, strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join(map(line, table))


def _is_number(text: str) -> bool:
    """Whether a cell is to stand with numbers: one, or the dash for none."""
    return text == "-" or text.replace(",", "").replace(".", "").isdigit()


def _teacher(run: Run) -> str:
    if run.config["loss"] in ("ce", "ls"):
        return "none"
    if run.config["online_teacher"]:
        return "live"
    stores, where = run.config.get("store"), "from the store"
    if isinstance(stores, list) and len(stores) > 1:
        where = f"{_COMBINED[run.config['combine']]} {len(stores)} stores"
    return f"{where}, approximate" if run.facts.get("approximate_teacher") else where
