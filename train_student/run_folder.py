"""A run's folder: what was asked for, where it ran, what came out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from pld.errors import ConfigError
from pld.provenance import provenance
from pld.writing import writing
from train_student.config import TrainConfig

METRICS_FILE = "metrics.jsonl"


class RunFolder:
    """RUN/config.yaml, RUN/run.json (provenance and sizes), RUN/metrics.jsonl, RUN/model/."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, config: TrainConfig, facts: dict[str, Any]) -> RunFolder:
        """Make the folder and say in it what runs.

        Raises:
            ConfigError: a run is there already.
            OutputError: the folder cannot be written.

        Args:
            config: written as YAML that `--config` reads again.
            facts: plain JSON to keep beside the provenance, such as the store's fingerprint.
        """
        path = Path(config.output)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{path}: holds a run already; name another folder with --output, or remove it")
        described = {
            "config.yaml": yaml.safe_dump(dataclasses.asdict(config), sort_keys=False),
            "run.json": json.dumps({**facts, "provenance": provenance()}, indent=2) + "\n",
        }
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            try:
                for name, text in described.items():
                    (path / name).write_text(text)
            except OSError:
                shutil.rmtree(path, ignore_errors=True)  # half a run would be taken for one
                raise
        return cls(path)

    def log(self, **values: Any) -> None:
        """Append a line to metrics.jsonl."""
        with writing(self.path), (self.path / METRICS_FILE).open("a") as file:
            file.write(json.dumps(values) + "\n")
