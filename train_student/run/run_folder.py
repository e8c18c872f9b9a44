"""A run's folder: what was asked for, where it ran, what came out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from pld.errors import ConfigError
from pld.files import write_atomically, writing
from pld.provenance import provenance
from train_student.config import TrainConfig

METRICS_FILE = "metrics.jsonl"


class RunFolder:
    """RUN/config.yaml, RUN/run.json (provenance and sizes), RUN/metrics.jsonl, RUN/model/, RUN/checkpoints/."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def begun(self) -> bool:
        """Whether a run is there already.

        Raises:
            ConfigError: there is something, and it is no run's folder.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return False
        if not (self.path / "config.yaml").is_file():
            raise ConfigError(f"{self.path}: is there and is not a run's folder; name another with --output")
        return True

    def create(self, config: TrainConfig, facts: dict[str, Any]) -> None:
        """Make the folder and say in it what runs.

        Args:
            config: written as YAML that `--config` reads again.
            facts: plain JSON to keep beside the provenance, such as the store's fingerprint.

        Raises:
            OutputError: the folder cannot be written; nothing of it is left.
        """
        described = {
            "config.yaml": yaml.safe_dump(dataclasses.asdict(config), sort_keys=False),
            "run.json": json.dumps({**facts, "provenance": provenance()}, indent=2) + "\n",
        }
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                for name, text in described.items():
                    (self.path / name).write_text(text)
            except OSError:
                shutil.rmtree(self.path, ignore_errors=True)  # half a run would be taken for one
                raise

    def log(self, **values: Any) -> None:
        """Append a line to metrics.jsonl."""
        with writing(self.path), (self.path / METRICS_FILE).open("a") as file:
            file.write(json.dumps(values) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        path = self.path / METRICS_FILE
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def drop_metrics_after(self, epochs: int) -> None:
        """Leave out what was logged after a checkpoint: it is about to be logged again."""
        kept = [line for line in self.metrics() if line["epoch"] <= epochs]
        with writing(self.path), write_atomically(self.path / METRICS_FILE, unique=False) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
