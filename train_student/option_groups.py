"""The options of `train_student` in groups; each is described, checked and marked at its field."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeVar

from pld.logs import FILE_HELP, LEVEL_HELP, Level
from pld.losses import NamedLoss, build_loss, loss_names, loss_settings
from pld.options import ABOVE_ZERO, AT_LEAST_ONE, FRACTION, option
from pld.precision import Precision, fast_precision
from pld.store import Combine, Decoder

Group = TypeVar("Group")
# As --val_data.
NO_VALIDATION = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The training images, and how they are read."""

    images: str = option(
        "",
        "glyphs, tar shards such as 'train-{0000..1023}.tar' (quoted), a folder of images or shards, or ImageNet as "
        "docs/imagenet.md has it; shards also behind a URL",
        flat="data",
        may_change=True,
    )
    split: str = option("train", "which part of a folder is trained on, by its name or another word for it")
    class_names: str | None = option(
        None,
        "a file with the classes' names in the order of their numbers, as cache-teacher's --class_names",
        may_change=True,
    )
    unlabelled: bool = option(
        False, "images without labels, every one of the split; a store without labels says it by itself"
    )
    num_classes: int | None = option(None, "number of classes, if neither the store nor the dataset states it")
    policy: str | None = option(
        None,
        "how views are drawn without a store: a preset (light, deit, tinyvit, a1) or steps, such as "
        "rrc,flip,rand-m9-mstd0.5-inc1,erase-0.25; with a store it must be the store's policy. The dataset's own crop "
        "and flip, or the store's policy, if not given",
    )
    views: int | None = option(
        None,
        "how many views to cycle through; the store's, or without a store a new one each epoch",
        check=AT_LEAST_ONE,
    )
    decoder: Decoder | None = option(
        None,
        "of training images: cpu, or nvjpeg, which decodes on the GPU and gives other pixels; the store's if not given",
    )
    missing: Literal["error", "skip"] = option(
        "error", "stop at an image that the store lacks, or leave such images out and count them"
    )
    on_bad_image: Literal["error", "skip"] = option(
        "error",
        "stop at an image that cannot be decoded, or count it and go on: in training another image of its micro-batch "
        "takes its place, in validation it is left out",
        affects_result=False,  # a run that a broken image stopped can go on without it
    )
    workers: int = option(2, "loader processes for each training process", affects_result=False)
    streams: int = option(
        64, "interleaved streams of shards; a multiple of the number of processes", check=AT_LEAST_ONE
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationOptions:
    """The validation images, and what is measured on them."""

    val_data: str | None = option(None, "where they are, if not in data; none goes without validation", may_change=True)
    val_split: str = option("val", "which part of a folder is validated on")
    val_share: float | None = option(
        None,
        "of the training images, held out by key and validated on in place of val_data",
        check=(f"{FRACTION[0]}, such as 0.02", FRACTION[1]),
    )
    val_store: str | None = option(
        None,
        "a store of the validation images, for the agreement with the teacher and its KL to the student",
        may_change=True,
    )
    crop_fraction: float | None = option(
        None,
        "fraction of the centre crop; 0.875 resizes to 256 and crops 224. Without it the initial weights' own, else "
        "224/236",
        check=("a number above 0, at most 1", lambda value: 0 < value <= 1),
    )
    eval_every: int = option(1, "epochs between validations", check=AT_LEAST_ONE, may_change=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Where the teacher's logits come from: stores, or the teacher itself."""

    store: list[str] | str | None = option(
        None,
        "the folder or URL of the teacher's logits, made by cache-teacher; given again, another teacher's",
        may_change=True,
    )
    combine: Combine = option(
        "average", "of several stores average the probabilities, or pick one for each image and view"
    )
    online_teacher: bool = option(False, "run the teacher in training in place of a store, for comparison")
    name: str | None = option(None, "the live teacher, as cache-teacher's --teacher", flat="teacher", may_change=True)
    weights: str | None = option(None, "the live teacher's weights, as cache-teacher's --weights", may_change=True)
    class_map: str | None = option(
        None, "which of the live teacher's classes the data's are, as cache-teacher's --class_map", may_change=True
    )

    @property
    def stores(self) -> list[str]:
        """The stores' places, none where there is no store."""
        return [self.store] if isinstance(self.store, str) else self.store or []


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The student."""

    name: str = option("resnet50", "any timm model", flat="model")
    model_kwargs: dict[str, Any] = option({}, "more arguments for timm.create_model")
    pretrained: bool = option(False, "begin with timm's published weights of the model, those of its tag")
    init_from: str | None = option(
        None,
        "weights to begin with: a finished run's folder, its checkpoints, a model's folder (config.json), or a file "
        "(.safetensors, .pth)",
    )
    image_size: int | None = option(
        None, "side of the student's input, pixels; without it the initial weights' own, else 224", check=AT_LEAST_ONE
    )
    freeze_bn: bool = option(
        False, "keep batch norm's statistics as the initial weights have them; without it they follow the new images"
    )
    channels_last: bool = option(True, "memory format of the student's weights and images")
    compile: bool = option(False, "run the student through torch.compile", affects_result=False)

    @property
    def has_weights(self) -> bool:
        """Whether it begins with weights that were trained before."""
        return self.pretrained or self.init_from is not None


# Options that are there only while a plug-in is installed.
PLUGIN_SETTINGS = frozenset(each.name for each in loss_settings() if each.is_of_plugins)


def _with_loss_settings(options: type[Group]) -> type[Group]:
    """Add the settings of all losses to a group of options; None is the loss's own default."""
    fields = [(each.name, each.type | None, option(None, each.help)) for each in loss_settings()]
    namespace = {"__doc__": options.__doc__, "__module__": options.__module__}
    return dataclasses.make_dataclass(
        options.__name__, fields, bases=(options,), namespace=namespace, frozen=True, kw_only=True
    )


@_with_loss_settings
@dataclasses.dataclass(frozen=True, kw_only=True)
class LossOptions:
    """The loss and its settings."""

    name: str = option("pld", ", ".join(loss_names()), flat="loss")
    standardize: Literal["none", "both", "teacher"] = option(
        "none", "logits to standardise first: none, both sides', or the teacher's alone"
    )
    approximate_teacher: bool = option(
        False, "let a loss use a truncated teacher where that is not exact enough to be trusted"
    )

    def build(self) -> NamedLoss:
        """The loss with the settings that were given."""
        # A loss that was registered after this module was imported has its settings' defaults.
        settings: dict[str, Any] = {each.name: getattr(self, each.name, None) for each in loss_settings()}
        settings = {name: value for name, value in settings.items() if value is not None}
        if self.approximate_teacher:
            settings["approximate"] = True
        return build_loss(self.name, standardize=self.standardize, **settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """Batches, optimizer and schedule."""

    epochs: int = option(100, "passes over the data", check=AT_LEAST_ONE)
    batch_size: int = option(2048, "views in a global batch, over all processes", check=AT_LEAST_ONE)
    views_per_image: int = option(
        1,
        "views of each image in a batch, from one decode, each with its own logits; a batch has batch_size / "
        "views_per_image images",
        check=AT_LEAST_ONE,
    )
    accumulate: int = option(
        1,
        "micro-batches that a process cuts its share of a batch into, to need less memory",
        check=AT_LEAST_ONE,
        may_change=True,
    )
    opt: str = option("lamb", "timm optimizer, such as lamb, adamw, adan, adabelief")
    lr: float = option(5e-3, "peak learning rate")
    weight_decay: float = option(0.02, "weight decay, for weights of two or more dimensions")
    opt_kwargs: dict[str, Any] = option({}, "more arguments for timm's create_optimizer_v2")
    clip_grad: float | None = option(
        None, "largest norm of the gradient; no limit if not given (lamb has its own)", check=ABOVE_ZERO
    )
    ema_decay: float | None = option(
        None,
        "average the weights with this decay, and validate and keep the average (timm's ModelEmaV3)",
        check=FRACTION,
    )
    sched: Literal["cosine", "tanh", "poly", "step"] = option("cosine", "timm schedule: cosine, tanh, poly or step")
    warmup_epochs: int = option(5, "epochs of linear warm-up")
    min_lr: float = option(0.0, "final learning rate of the schedule")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the run computes, and what it leaves where."""

    seed: int = option(0, "random seed of the sample order and the student's initial weights")
    precision: Literal["fp32", "bf16", "fp16", "auto"] = option(
        "fp32", "fp32, or autocast to bf16 or fp16; auto is bf16 where the machine computes in it, else fp32"
    )
    deterministic: bool = option(
        False, "only kernels that give the same bits each time on one kind of machine; slower on GPUs"
    )
    output: str = option(
        "runs/student",
        "the folder to write, or a URL such as s3://BUCKET/RUN: configuration, metrics, model, checkpoints",
        affects_result=False,
    )
    checkpoint_minutes: float = option(15.0, "minutes between checkpoints", check=ABOVE_ZERO, affects_result=False)
    checkpoint_steps: int | None = option(
        None,
        "optimizer steps between checkpoints; replaces checkpoint_minutes if given",
        check=AT_LEAST_ONE,
        affects_result=False,
    )
    keep_checkpoints: int = option(2, "how many of the last ones to keep", check=AT_LEAST_ONE, affects_result=False)
    resume: Literal["auto", "never"] = option(
        "never",
        "auto goes on with the run in the output folder, if there is one; never refuses to touch it",
        affects_result=False,
    )
    tracker: str = option(
        "tensorboard", "tensorboard, another one that accelerate knows, or none", affects_result=False
    )
    push_to_hub: str | None = option(
        None,
        "a Hugging Face repository to publish the finished model in, such as me/resnet50-pld",
        affects_result=False,
    )
    dry_run: bool = option(
        False,
        "print the run's plan and needs, train two steps on synthetic data and a minute on the run's, write nothing",
        affects_result=False,
    )
    log_level: Level = option("info", LEVEL_HELP, affects_result=False)
    log_file: str | None = option(None, FILE_HELP, affects_result=False)

    @property
    def resolved_precision(self) -> Precision:
        """The precision that is meant on this machine."""
        return fast_precision() if self.precision == "auto" else self.precision
