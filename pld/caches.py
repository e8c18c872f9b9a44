"""Where copies lie that can be made again at any time: indexes, generated datasets, ranges of remote stores."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$PLD_CACHE, else ~/.cache/pld."""
    return Path(os.environ.get("PLD_CACHE") or Path.home() / ".cache" / "pld")
