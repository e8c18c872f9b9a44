"""Progress with a rate and an ETA: redrawn on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys

from tqdm import tqdm

_LOG_SECONDS = 30.0


def progress(total: int, description: str, unit: str = "img", *, show: bool = True) -> tqdm:  # type: ignore[type-arg]
    """A progress bar on stderr for `total` units; call `.update(n)`, and `.close()` or use it as a context."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        unit_scale=True,
        dynamic_ncols=terminal,
        mininterval=0.1 if terminal else _LOG_SECONDS,
        maxinterval=1.0 if terminal else 2 * _LOG_SECONDS,
        disable=not show,
    )
