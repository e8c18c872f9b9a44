"""A run's folder: what was asked for, where it ran, what came out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import yaml

from pld.errors import ConfigError
from pld.provenance import provenance
from train_student.config import TrainConfig

METRICS_FILE = "metrics.jsonl"


class RunFolder:
    """RUN/config.yaml, RUN/run.json (provenance and sizes), RUN/metrics.jsonl, RUN/model/."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, config: TrainConfig, facts: dict[str, Any]) -> RunFolder:
        """Make the folder and say in it what runs; raises ConfigError where a run is already, or none can be.

        Args:
            config: written as YAML that `--config` reads again.
            facts: plain JSON to keep beside the provenance, such as the store's fingerprint.
        """
        path = Path(config.output)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{path}: holds a run already; name another folder with --output, or remove it")
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / "config.yaml").write_text(yaml.safe_dump(_plain(config), sort_keys=False))
            (path / "run.json").write_text(json.dumps({**facts, "provenance": provenance()}, indent=2) + "\n")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}; name another with --output") from error
        return cls(path)

    def log(self, **values: Any) -> None:
        """Append a line to metrics.jsonl."""
        with (self.path / METRICS_FILE).open("a") as file:
            file.write(json.dumps(values) + "\n")


def _plain(config: TrainConfig) -> dict[str, Any]:
    return dataclasses.asdict(config)
