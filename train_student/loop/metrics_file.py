"""metrics.jsonl: a line of JSON for each epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pld.files import write_atomically, writing


class MetricsFile:
    """A run's metrics.jsonl."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.jsonl"

    def append(self, **values: Any) -> None:
        """Add a line; raises OutputError where it cannot be written."""
        with writing(self._path.parent), self._path.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """All lines; none where there is no file yet."""
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.is_file() else []

    def drop_after(self, epochs: int) -> None:
        """Remove the lines of later epochs than a checkpoint's: they are about to be logged again."""
        kept = [line for line in self.lines() if line["epoch"] <= epochs]
        with writing(self._path.parent), write_atomically(self._path, unique=False) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
