"""Where the time of an epoch goes: what this process and its loaders spend on each part, and their shares."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Literal

from pld.loading import LoadTimes

OwnPart = Literal["waiting", "joining", "teacher", "moving", "saving", "validating"]
_LOADING = ("reading", "decoding", "cutting")
PARTS = (*_LOADING, "joining", "moving", "stepping", "saving", "validating")


class EpochTimes:
    """Counts the seconds of an epoch in this process: of its own parts, and of its loaders'.

    A GPU works while this process goes on. What it takes is seen where this process waits for it, which is in a step.
    """

    def __init__(self) -> None:
        self._own: defaultdict[str, float] = defaultdict(float)
        self._loaders = LoadTimes()
        self._before: Mapping[str, float] = {}
        self._at_start = self._counted()

    def begin(self, loaders: LoadTimes) -> None:
        """Start now, with loaders that have done nothing yet; what `go_on` was given stays."""
        self._loaders = loaders
        self._at_start = self._counted()

    def go_on(self, state: Mapping[str, float]) -> None:
        """Count on from `state()`, of an epoch that was interrupted."""
        self._before = dict(state)

    def end_epoch(self) -> dict[str, float]:
        """The shares of this epoch's time, as metrics.jsonl has them; the next epoch starts."""
        shares = to_shares(self.state())
        self._before, self._at_start = {}, self._counted()
        return {f"time/{name}": round(share, 4) for name, share in shares.items()}

    @contextlib.contextmanager
    def counting(self, part: OwnPart) -> Iterator[None]:
        """Count what the context takes."""
        since = time.perf_counter()
        try:
            yield
        finally:
            self._own[part] += time.perf_counter() - since

    def state(self) -> dict[str, float]:
        """The epoch's seconds so far: in all, of this process's parts and of the loaders', over all of these."""
        now, start, before = self._counted(), self._at_start, self._before
        return {name: now.get(name, 0.0) - start.get(name, 0.0) + before.get(name, 0.0) for name in {**before, **now}}

    def _counted(self) -> dict[str, float]:
        return {**self._own, **self._loaders.seconds, "drawing": self._loaders.drawing, "all": time.perf_counter()}


def to_shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """Shares of an epoch's time in one process, which sum to 1, by part.

    Waiting for images is divided among reading, decoding and cutting as the loaders' seconds are, once it is without
    the waiting for requests to be drawn, which is reading. Stepping is all that is not another part.

    Args:
        seconds: as `EpochTimes.state` has them; `teacher` has a share only where it has seconds.
    """
    of = defaultdict(float, seconds)
    loading = sum(of[name] for name in _LOADING)
    drawing = min(of["drawing"], of["waiting"])
    shares = {name: (of["waiting"] - drawing) * (of[name] / loading if loading else 0.0) for name in _LOADING}
    shares["reading"] += drawing if loading else of["waiting"]
    shares |= {name: of[name] for name in PARTS if name not in shares}
    if of["teacher"]:
        shares["teacher"] = of["teacher"]
    shares["stepping"] = max(0.0, of["all"] - sum(shares.values()))
    total = sum(shares.values()) or 1.0
    return {name: value / total for name, value in shares.items()}
