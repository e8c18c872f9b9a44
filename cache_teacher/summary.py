"""What a finished store holds and how good it is, in a few lines."""

from __future__ import annotations

from pld.store import Store


def print_summary(store: Store, wanted_views: int) -> None:
    """Samples, views, the teacher's top-1 on what it saw, tail mass, certified gradient error and bytes per view."""
    if store.num_views < wanted_views:
        print(f"{store.url}: {store.num_views} of {wanted_views} views are complete; other processes are still at work")
        return
    codec, teacher = store.manifest.identity.codec, store.manifest.identity.teacher
    stats = store.stats
    mean_error, high_error = store.gradient_error_bound()
    skipped = store.skipped
    lines = {
        "teacher": f"{teacher.name}{'.' if teacher.tag else ''}{teacher.tag}, {teacher.num_classes} classes",
        "samples": f"{store.num_samples:,}"
        + (f" ({len(skipped)} skipped: {', '.join(skipped[:3])})" if skipped else ""),
        "views": f"{store.num_views}, top {codec.k} of each",
        "teacher's top-1": f"{100 * stats.accuracy:.2f} % on these views",
        "tail mass": f"{100 * stats.mean_tail_mass:.3g} % of probability outside the top {codec.k} and the label, on average",
        "gradient error": f"at most {mean_error:.3g} on average, {high_error:.3g} for 95 % (L1, PLD at T = 1)",
        "bytes": f"{store.num_bytes:,}; {store.bytes_per_view:.1f} per view",
        "fingerprint": store.manifest.identity.fingerprint,
    }
    print(f"{store.url}: complete")
    for name, value in lines.items():
        print(f"  {name:16} {value}")
