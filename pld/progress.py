"""Progress with a rate and an ETA: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from tqdm import tqdm

from pld.logs import AS_IT_IS, FILE_ONLY

_LOG = logging.getLogger(__name__)

_LOG_SECONDS = 30.0
_LINE = "{desc}: {percentage:.0f} % ({n_fmt} of {total_fmt}), {elapsed} gone, {remaining} to go, {rate_fmt}{postfix}"


def progress(total: int, description: str, unit: str = "img", *, show: bool = True, delay: float = 0.0) -> tqdm:  # type: ignore[type-arg]
    """Progress on stderr for `total` units, where INFO is logged.

    Args:
        total: how many units there are.
        description: what is done.
        unit: of what is counted.
        show: False for none, in processes that do not speak.
        delay: seconds before it is shown at all.

    Returns:
        What to call `.update(n)` of, and `.close()` or use as a context.
    """
    terminal = sys.stderr.isatty()
    kind = _Bar if terminal else tqdm
    bar: tqdm = kind(  # type: ignore[type-arg]
        total=total,
        desc=description,
        unit=unit,
        unit_scale=True,
        file=sys.stderr if terminal else _Lines(),
        bar_format=None if terminal else _LINE,
        dynamic_ncols=terminal,
        mininterval=0.1 if terminal else _LOG_SECONDS,
        maxinterval=1.0 if terminal else 2 * _LOG_SECONDS,
        delay=delay,
        disable=not show or not _LOG.isEnabledFor(logging.INFO),
    )
    return bar


class _Lines:
    """Logs as lines what tqdm would draw over what it drew before."""

    def write(self, text: str) -> None:
        if line := text.strip():
            _LOG.info("%s", line, extra=AS_IT_IS)

    def flush(self) -> None:
        pass


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar; the log's file has a line now and then."""

    _logged_at = float("-inf")

    def display(self, *arguments: Any, **settings: Any) -> Any:
        """Draw it."""
        if time.monotonic() - self._logged_at >= _LOG_SECONDS:
            self._logged_at = time.monotonic()
            values = {**self.format_dict, "bar_format": _LINE, "ncols": None}
            _LOG.info("%s", self.format_meter(**values), extra=FILE_ONLY)
        return super().display(*arguments, **settings)
