"""study.json: every run that is in, and what they have in common. Replaced whole, so that a crash loses nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pld.errors import DataError
from pld.files import write_atomically, writing

FILE = "study.json"


class Results:
    """The file's content, written after each change.

    Attributes:
        path: the file.
        facts: data, teacher, stores, settings.
        runs: by configuration hash, in the order in which they came.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Any] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        if path.is_file():
            try:
                held = json.loads(path.read_text())
                self.facts = held["study"]
                self.runs = {run["config_hash"]: run for run in held["runs"]}
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}: not a study's results: {error}; restore it from git, or remove it") from error

    def note(self, **facts: Any) -> None:
        """Remember facts about the study as a whole."""
        self.facts |= facts
        self._write()

    def add(self, run: Mapping[str, Any]) -> None:
        """Remember a run by its `config_hash`."""
        self.runs[run["config_hash"]] = dict(run)
        self._write()

    def _write(self) -> None:
        # One line for each run, so that diffs of the file are readable.
        runs = ",\n".join(json.dumps(run) for run in self.runs.values())
        with writing(self.path), write_atomically(self.path) as staged:
            staged.write_text(f'{{"study": {json.dumps(self.facts)},\n"runs": [\n{runs}\n]}}\n')
