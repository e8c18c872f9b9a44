"""Progress with a rate and an ETA: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys

from tqdm import tqdm

_LOG_SECONDS = 30.0
_LINE = "{desc}: {percentage:.0f} % ({n_fmt} of {total_fmt}), {elapsed} gone, {remaining} to go, {rate_fmt}{postfix}"


def progress(total: int, description: str, unit: str = "img", *, show: bool = True) -> tqdm:  # type: ignore[type-arg]
    """Progress on stderr for `total` units; call `.update(n)`, and `.close()` or use it as a context."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        unit_scale=True,
        file=sys.stderr if terminal else _Log(),
        bar_format=None if terminal else _LINE,
        dynamic_ncols=terminal,
        mininterval=0.1 if terminal else _LOG_SECONDS,
        maxinterval=1.0 if terminal else 2 * _LOG_SECONDS,
        disable=not show,
    )


class _Log:
    """Writes as lines what tqdm would draw over what it drew before."""

    def write(self, text: str) -> None:
        if line := text.strip():
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()
