"""A store's figures as rows of a table, and rows as aligned text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pld.store import Store, ViewIdentity

# Bytes of a float16 in a dense store, to compare with.
_DENSE_BYTES = 2


def store_rows(store: Store) -> list[tuple[str, str]]:
    """Facts about a store, name and value, from its manifest and commits alone."""
    teacher, codec, stats = store.manifest.identity.teacher, store.manifest.identity.codec, store.stats
    mean_error, high_error = store.gradient_error_bound()
    later = stats.num_rows - store.num_views * store.num_samples
    unfinished = f" complete, and {later:,} sample-views of later ones" if later else ""
    kept = f"top {codec.k}" if codec.error is None else "classes kept"
    decoder = ", decoded by nvJPEG" if store.manifest.identity.views.decoder == "nvjpeg" else ""
    at_most = "" if codec.error is None else "at most the "
    label = " and the label" if store.is_labelled else ""
    skipped = f" ({len(store.skipped)} skipped: {', '.join(store.skipped[:3])})" if store.skipped else ""
    return [
        ("teacher", f"{teacher.full_name}, {teacher.precision}"),
        *_class_rows(store),
        ("samples", f"{store.num_samples:,}{skipped}"),
        (
            "views",
            f"{store.num_views}{unfinished}, {at_most}top {codec.k} of {teacher.num_classes} classes for each{decoder}",
        ),
        _accuracy_row(store),
        ("tail mass", f"{100 * stats.mean_tail_mass:.3g} % of probability is outside the {kept}{label}"),
        *_count_rows(store),
        *_sample_rows(store),
        ("gradient error", f"at most {mean_error:.3g} on average, {high_error:.3g} for 95 % (L1, PLD at T = 1)"),
        ("size", f"{store.num_bytes:,} bytes, {store.num_bytes / stats.num_rows:.1f} per view"),
        ("as float16", f"{_DENSE_BYTES * teacher.num_classes} bytes per view, all classes"),
        ("fingerprint", store.manifest.identity.fingerprint),
    ]


def _count_rows(store: Store) -> list[tuple[str, str]]:
    """How many classes the views list where an error was asked for, and how many views do not keep it."""
    codec, stats = store.manifest.identity.codec, store.stats
    if codec.error is None or not stats.num_rows:
        return []
    kept = f"{stats.num_listed / stats.num_rows:.1f} a view on average, {stats.most_listed} at most"
    over = "no view"
    if stats.num_over_error:
        over = f"{100 * stats.num_over_error / stats.num_rows:.3g} % of views: k = {codec.k} is too few for them"
    return [("classes", kept), (f"error above {codec.error:g}", over)]


def over_error(store: Store) -> str | None:
    """A warning where views do not keep the error that was asked for; None if all do."""
    codec, stats = store.manifest.identity.codec, store.stats
    if codec.error is None or not stats.num_over_error:
        return None
    return (
        f"{stats.num_over_error:,} of {stats.num_rows:,} views ({100 * stats.num_over_error / stats.num_rows:.3g} %) "
        f"have an error above {codec.error:g}: their top {codec.k} are too few. They are used as they are; to keep the "
        "error for more of them, cache into another --store with a larger --k or --error"
    )


def _sample_rows(store: Store) -> list[tuple[str, str]]:
    """What a sampled tail is worth: the expected error of a single view's KD gradient, over the gradient's length."""
    codec = store.manifest.identity.codec
    if not codec.tail_samples:
        return []
    errors = (
        f"{error:.3g} at T = {temperature:g}"
        for temperature, error in zip(codec.temperatures, store.stats.relative_tail_errors, strict=False)
    )
    drawn = f"{codec.tail_samples} classes of each view, drawn with known probabilities"
    return [
        ("sampled tail", drawn),
        (
            "its KD gradient",
            f"unbiased; of one view off by at most {', '.join(errors)} of its length (L2, at the start)",
        ),
    ]


def views_text(views: ViewIdentity) -> str:
    """How views are drawn, such as "random_resized_crop(flip=True), then mixup(alpha=0.8); partners=shard; seed=7"."""
    policy = dict(views.policy)
    steps = policy.pop("steps", [])
    if not isinstance(steps, list) or not all(isinstance(step, Mapping) for step in steps):
        policy, steps = dict(views.policy), []  # another program's
    partners = {"partners": policy.pop("partners")} if steps and "partners" in policy else {}
    drawn = ", then ".join(_call(step) for step in (policy, *steps))
    return "; ".join([drawn, *(f"{name}={value}" for name, value in {**partners, "seed": views.seed}.items())])


def _call(part: Mapping[str, Any]) -> str:
    """Such as mixup(alpha=0.8)."""
    return f"{part.get('name')}({', '.join(f'{name}={value}' for name, value in part.items() if name != 'name')})"


def _accuracy_row(store: Store) -> tuple[str, str]:
    accuracy = store.stats.accuracy
    if accuracy is None:
        return "labels", "none, the images are unlabelled: how often the teacher is right is not known"
    return "teacher's top-1", f"{100 * accuracy:.2f} % on these views"


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
