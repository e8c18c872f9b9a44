"""Where a run stands, and how it goes on from there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import yaml

from pld.errors import ConfigError
from train_student.config import TrainConfig

# What may change from one start of a run to the next: where and how it runs, not what comes out.
_MAY_CHANGE = frozenset(
    {"workers", "resume", "checkpoint_minutes", "checkpoint_steps", "keep_checkpoints", "tracker", "push_to_hub"}
    | {"output", "compile", "dry_run"}
    | {"on_bad_image"}  # a run that a broken image stopped can go on without it
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position:
    """What decides the batches to come, on any number of processes.

    Attributes:
        seed: of the order.
        epoch: the one in progress, from 0.
        samples_seen: in this epoch, over all processes; whole global batches. All of an epoch where it is trained and
            not yet validated.
        num_views: how many views the run cycles through, whatever has been added to the store since.
        fingerprint: the store's.
        data_digest: of the training images' keys and labels, and of the class names.
    """

    seed: int
    epoch: int
    samples_seen: int
    num_views: int | None
    fingerprint: str | None
    data_digest: str | None = None

    def check_same_data(self, fingerprint: str | None, data_digest: str, where: Path) -> None:
        """Raise ConfigError where the run was begun with another store, or with other samples, labels or classes."""
        if self.data_digest not in (None, data_digest):  # None in checkpoints of the version before
            raise ConfigError(
                f"{where}: was trained on other keys, labels or class names than there are now (digest "
                f"{self.data_digest[:12]}, now {data_digest[:12]}): undo what changed in the folders, dataset.json or "
                "--class_names, or give another --output to begin anew"
            )
        if self.fingerprint != fingerprint:
            raise ConfigError(
                f"{where}: was trained from a store with fingerprint {self.fingerprint}, this one has {fingerprint}; "
                "give the same --store, or another --output to begin anew"
            )


def check_same_settings(config: TrainConfig, folder: Path) -> None:
    """Raise ConfigError, naming them, where settings differ from those that the run in `folder` was begun with."""
    path = folder / "config.yaml"
    try:
        before = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; name another folder with --output") from error
    now = json.loads(json.dumps(dataclasses.asdict(config)))
    different = [
        f"{name} {before.get(name)!r}, now {value!r}"
        for name, value in now.items()
        if name not in _MAY_CHANGE and before.get(name) != value
    ]
    if different:
        raise ConfigError(
            f"{folder}: was begun with {'; '.join(different)}. Go on with the same settings, or name another folder "
            "with --output"
        )
