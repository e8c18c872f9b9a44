"""A run's folder: config.yaml, run.json (provenance and sizes), metrics.jsonl, model/, checkpoints/."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from pld.errors import ConfigError
from pld.files import write_atomically, writing
from pld.options import as_flat, flatten, options
from pld.provenance import provenance
from train_student.config import TrainConfig
from train_student.model.student import student_preprocessing
from train_student.option_groups import PLUGIN_SETTINGS

# Options that are younger than runs which people have: where they are at their defaults, settings leave them out, so
# that an old run and a new seed of it are one configuration. Those of plug-ins likewise: a run that does not use them
# can be read and resumed without them.
_ADDED = {
    "pretrained",
    "init_from",
    "freeze_bn",
    "unlabelled",
    "policy",
    "views_per_image",
    "entropy_temperature",
} | PLUGIN_SETTINGS


# What a command leaves that was killed before it had written config.yaml, the last one: no run yet.
_BEFORE_A_RUN = {"run.json", ".run.json.tmp", ".config.yaml.tmp"}


def holds_run(folder: Path, log_file: str | None = None) -> bool:
    """Whether a run is there already, beside logs; raises ConfigError where there is something else.

    Args:
        folder: a run's, or not there yet.
        log_file: of this command, which may be in the folder under any name; those of others end in .log.
    """
    if not folder.exists():
        return False
    if folder.is_dir():
        log = Path(log_file).absolute() if log_file else None
        others = [path for path in folder.iterdir() if path.suffix != ".log" and path.absolute() != log]
        if {path.name for path in others} <= _BEFORE_A_RUN:
            return False
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder}: is there and is not a run's folder; name another with --output")
    return True


def create_run_folder(folder: Path, config: TrainConfig, facts: dict[str, Any]) -> None:
    """Create the run folder, and write its configuration and provenance.

    Args:
        folder: its place.
        config: written as YAML that `--config` reads again.
        facts: plain JSON to keep beside the provenance, such as the store's fingerprint.

    Raises:
        OutputError: the folder cannot be written; nothing of it is left.
    """
    texts = {
        "run.json": json.dumps({**facts, "provenance": provenance()}, indent=2) + "\n",
        "config.yaml": yaml.safe_dump(_as_yaml(config), sort_keys=False),
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name, text in texts.items():
                with write_atomically(folder / name, unique=False) as temporary:
                    temporary.write_text(text)
        except OSError:
            for name in texts:  # half a run would be taken for one; a log may stay
                (folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise


def _as_yaml(config: TrainConfig) -> dict[str, Any]:
    """What config.yaml holds: all options in their groups, those of plug-ins where they are given."""
    groups = dataclasses.asdict(config)
    groups["loss"] = {k: v for k, v in groups["loss"].items() if k not in PLUGIN_SETTINGS or v is not None}
    return groups


def remove_remains(folder: Path) -> None:
    """Remove what a killed command had not finished writing; for who has the run to itself."""
    for path in [*folder.glob(".*.tmp"), *folder.glob("checkpoints/.*.tmp")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def settings(config: TrainConfig) -> dict[str, Any]:
    """The options that the result depends on, by flat names: what tells configurations, and seeds, apart."""
    found = _settings(config)
    return {name: value for name, value in found.items() if name not in _ADDED or value != _default(name)}


def _settings(config: TrainConfig) -> dict[str, Any]:
    flat = as_flat(config)
    return _complete({name: value for name, value in flat.items() if options(TrainConfig)[name].affects_result})


def _default(name: str) -> Any:
    return options(TrainConfig)[name].default


def _complete(values: dict[str, Any]) -> dict[str, Any]:
    """Settings with the recipe's input, which is meant where weights are fresh and no other is given."""
    if values["pretrained"] or values["init_from"]:
        return values
    recipe = student_preprocessing(values["image_size"], values["crop_fraction"])
    return {**values, "image_size": recipe.input_size[0], "crop_fraction": recipe.crop_fraction}


def check_same_settings(folder: Path, config: TrainConfig) -> None:
    """Raise ConfigError, naming them, where settings differ from those that the run in `folder` was begun with.

    Places may change; `check_same_content` compares what is there.
    """
    path = folder / "config.yaml"
    try:
        before = flatten(TrainConfig, yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; name another folder with --output") from error
    now = json.loads(json.dumps(_settings(config)))
    before = _complete({name: before.get(name, _default(name)) for name in now})
    now = {name: value for name, value in now.items() if not options(TrainConfig)[name].may_change}
    different = [f"{name} {before[name]!r}, now {value!r}" for name, value in now.items() if before[name] != value]
    if different:
        raise ConfigError(
            f"{folder}: was begun with {'; '.join(different)}. Continue with the same settings, or name another "
            f"folder with --output.{how_to_continue(folder)}"
        )


def how_to_continue(folder: Path) -> str:
    """How to train the model in `folder` further in a new run, as a sentence for messages; empty if it has no model."""
    has_model = (folder / "model" / "config.json").is_file()
    return f" To train its model further, start a new run: --output OTHER --init_from {folder}" if has_model else ""
