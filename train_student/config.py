"""TrainConfig: all options of `train_student`, and which of them go together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pld.errors import ConfigError
from pld.losses import losses_without_labels
from pld.options import check_values, from_flat
from train_student.option_groups import (
    NO_VALIDATION,
    DataOptions,
    LossOptions,
    ModelOptions,
    OptimizerOptions,
    RunOptions,
    TeacherOptions,
    ValidationOptions,
)

RECIPES = Path(__file__).parent / "recipes"

_NOTHING_CONFIGURED = """nothing to train from: {missing} not given.
  1. images    --data glyphs | 'train-{{0000..1023}}.tar' (quoted) | FOLDER
  2. a store   make cache TEACHER=resnet152 DATA=... STORE=stores/resnet152
  3. train     accelerate launch train_student.py --data ... --store stores/resnet152 --model resnet50
Without a teacher: --loss ce. With a live one: --online-teacher --teacher resnet152. A first try: make demo."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a student from images and a store of cached logits; the defaults are the paper's ImageNet recipe."""

    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    validation: ValidationOptions = dataclasses.field(default_factory=ValidationOptions)
    teacher: TeacherOptions = dataclasses.field(default_factory=TeacherOptions)
    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    loss: LossOptions = dataclasses.field(default_factory=LossOptions)
    optimizer: OptimizerOptions = dataclasses.field(default_factory=OptimizerOptions)
    run: RunOptions = dataclasses.field(default_factory=RunOptions)

    @classmethod
    def from_flat(cls, values: Mapping[str, Any] | None = None, /, **more: Any) -> TrainConfig:
        """A configuration from options by their flat names, as `TrainConfig.from_flat(data="glyphs", loss="ce")`."""
        return from_flat(cls, {**(values or {}), **more})

    def __post_init__(self) -> None:
        data, validation, teacher = self.data, self.validation, self.teacher
        needs_teacher = self.loss.build().required_signal.needs_teacher
        complete = data.images and (teacher.store or teacher.online_teacher or not needs_teacher)
        if not complete and not self.run.dry_run:
            given = {"data": data.images, "store": teacher.store}
            missing = " and ".join(f"--{name}" for name, value in given.items() if not value)
            raise ConfigError(_NOTHING_CONFIGURED.format(missing=missing))
        if teacher.online_teacher and not teacher.name:
            raise ConfigError("--online-teacher wants --teacher NAME, such as resnet152")
        check_values(self)
        share = validation.val_share
        if share is not None and validation.val_data:
            raise ConfigError(f"--val_share {share} and --val_data {validation.val_data}: give one of them")
        if validation.val_store and validation.val_data == NO_VALIDATION:
            raise ConfigError(f"--val_store {validation.val_store}: there is no validation with --val_data none")
        model = self.model
        if model.pretrained and model.init_from:
            raise ConfigError(f"--pretrained and --init_from {model.init_from}: give one of them")
        if model.freeze_bn and not model.has_weights:
            raise ConfigError("--freeze_bn: needs trained weights: give --pretrained or --init_from")
        if teacher.class_map and not teacher.online_teacher:
            raise ConfigError("--class_map: is for a live teacher; a store has the map that it was cached with")
        if data.unlabelled:
            self.check_without_labels("--unlabelled")

    def check_without_labels(self, why: str) -> None:
        """Raise ConfigError where a setting needs labels of the training images; `why` they have none begins it."""
        if reason := self.loss.build().required_signal.label:
            raise ConfigError(
                f"{why}: the training images have no labels, and --loss {self.loss.name} needs them: {reason}. Losses "
                f"that need none: {losses_without_labels('--{} 0')}"
            )
        if self.validation.val_share is not None:
            raise ConfigError(
                f"{why}: the training images have no labels, and validation needs them: leave --val_share out; name "
                "labelled images with --val_data, or go without: --val_data none"
            )
