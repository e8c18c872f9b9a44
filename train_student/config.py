"""What `train_student` can be told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from pld.errors import ConfigError
from pld.losses import NamedLoss, build_loss
from pld.precision import Precision, fast_precision
from pld.store import Combine, Decoder

RECIPES = Path(__file__).parent / "recipes"
# As --val_data.
NO_VALIDATION = "none"

_AT_LEAST_ONE = (
    *("epochs", "batch_size", "accumulate", "eval_every", "streams", "image_size", "views"),
    *("checkpoint_steps", "keep_checkpoints"),
)
_NOTHING_CONFIGURED = """nothing to train from: {missing} not given.
  1. images    --data glyphs | 'train-{{0000..1023}}.tar' (quoted) | FOLDER
  2. a store   make cache TEACHER=resnet152 DATA=... STORE=stores/resnet152
  3. train     accelerate launch train_student.py --data ... --store stores/resnet152 --model resnet50
Without a teacher: --loss ce. With a live one: --online-teacher --teacher resnet152. A first try: make demo."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a student from images and a store of cached logits; the defaults are the paper's ImageNet recipe.

    Attributes:
        data: glyphs, tar shards such as 'train-{0000..1023}.tar' (quoted), or a folder; shards also behind a URL
        split: which part of a folder is trained on, by its name or another word for it
        class_names: a file with the classes' names in the order of their numbers, as cache-teacher's --class_names
        val_data: where the validation images are, if not in data; none goes without validation
        val_split: which part of a folder is validated on
        val_share: of the training images, held out by key and validated on in place of val_data
        store: the folder or URL of the teacher's logits, made by cache-teacher; given again, another teacher's
        combine: of several stores average the probabilities, or pick one for each image and view
        online_teacher: run the teacher in training in place of a store, for comparison
        teacher: the live teacher, as cache-teacher's --teacher
        weights: the live teacher's weights, as cache-teacher's --weights
        class_map: which of the live teacher's classes the data's are, as cache-teacher's --class_map
        approximate_teacher: let a loss use a truncated teacher where that is not exact enough to be trusted
        model: any timm model
        model_kwargs: more arguments for timm.create_model
        num_classes: if neither the store nor the dataset says
        image_size: side of the student's input, pixels
        loss: ce, ls, kd, dist, dkd, listmle, plistmle or pld
        temperature: of the teacher in the loss; the loss's own default if not given
        alpha: of kd, dist and dkd; the loss's own default if not given
        beta: of dist and dkd; the loss's own default if not given
        gamma: of dist; the loss's own default if not given
        label_smoothing: of ls; the loss's own default if not given
        tail: drop or uniform, of pld; the loss's own default if not given
        global_batch: of dist; correlate columns over all processes' batches; the loss's own default if not given
        standardize: logits to standardise first: none, both sides', or the teacher's alone
        epochs: passes over the data
        batch_size: images in a global batch, over all processes
        accumulate: micro-batches that a process cuts its share of a batch into, to need less memory
        opt: timm optimizer, such as lamb, adamw, adan, adabelief
        lr: peak learning rate
        weight_decay: of the optimizer, on weights of two dimensions and more
        opt_kwargs: more arguments for timm's create_optimizer_v2
        clip_grad: largest norm of the gradient; no limit if not given (lamb has its own)
        ema_decay: average the weights with this decay, and validate and keep the average (timm's ModelEmaV3)
        sched: timm schedule: cosine, tanh, poly or step
        warmup_epochs: of linear warm-up
        min_lr: where the schedule ends
        decoder: of training images: cpu, or nvjpeg, which decodes on the GPU and gives other pixels; the store's if not
            given
        views: how many views to cycle through; the store's, or without a store a new one each epoch
        crop_fraction: of the centre crop in validation; 224/236 resizes to 236 and crops 224
        eval_every: epochs between validations
        val_store: a store of the validation images, for the agreement with the teacher and its KL to the student
        missing: stop at an image that the store lacks, or leave such images out and count them
        on_bad_image: stop at an image that cannot be decoded, or count it and go on: in training another image of its
            micro-batch takes its place, in validation it is left out
        precision: fp32, or autocast to bf16 or fp16; auto is bf16 where the machine computes in it, else fp32
        channels_last: memory format of the student's weights and images
        compile: run the student through torch.compile
        deterministic: only kernels that give the same bits each time on one kind of machine; slower on GPUs
        workers: loader processes for each training process
        streams: interleaved streams of shards; a multiple of the number of processes
        seed: of the order and the student's initial weights
        output: the folder to write: configuration, metrics, model, checkpoints
        checkpoint_minutes: between checkpoints
        checkpoint_steps: between checkpoints, in optimizer steps; in place of the minutes if given
        keep_checkpoints: how many of the last ones to keep
        resume: auto goes on with the run in the output folder, if there is one; never refuses to touch it
        tracker: tensorboard, another one that accelerate knows, or none
        push_to_hub: a Hugging Face repository to publish the finished model in, such as me/resnet50-pld
        dry_run: say what the run would do and need, train two steps on made-up data, and write nothing
    """

    data: str = ""
    split: str = "train"
    class_names: str | None = None
    val_data: str | None = None
    val_split: str = "val"
    val_share: float | None = None
    store: list[str] | str | None = None
    combine: Combine = "average"
    online_teacher: bool = False
    teacher: str | None = None
    weights: str | None = None
    class_map: str | None = None
    approximate_teacher: bool = False

    model: str = "resnet50"
    model_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_classes: int | None = None
    image_size: int = 224

    loss: str = "pld"
    temperature: float | None = None
    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    label_smoothing: float | None = None
    tail: Literal["drop", "uniform"] | None = None
    global_batch: bool | None = None
    standardize: Literal["none", "both", "teacher"] = "none"

    epochs: int = 100
    batch_size: int = 2048
    accumulate: int = 1
    opt: str = "lamb"
    lr: float = 5e-3
    weight_decay: float = 0.02
    opt_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    clip_grad: float | None = None
    ema_decay: float | None = None
    sched: Literal["cosine", "tanh", "poly", "step"] = "cosine"
    warmup_epochs: int = 5
    min_lr: float = 0.0

    decoder: Decoder | None = None
    views: int | None = None
    crop_fraction: float = 224 / 236
    eval_every: int = 1
    val_store: str | None = None
    missing: Literal["error", "skip"] = "error"
    on_bad_image: Literal["error", "skip"] = "error"
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    workers: int = 2
    streams: int = 64
    seed: int = 0
    output: str = "runs/student"
    checkpoint_minutes: float = 15.0
    checkpoint_steps: int | None = None
    keep_checkpoints: int = 2
    resume: Literal["auto", "never"] = "never"
    tracker: str = "tensorboard"
    push_to_hub: str | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        needs_teacher = self.loss_function.required_signal.needs_teacher
        complete = self.data and (self.store or self.online_teacher or not needs_teacher)
        if not complete and not self.dry_run:
            missing = [f"--{name}" for name in ("data", "store") if not getattr(self, name)]
            raise ConfigError(_NOTHING_CONFIGURED.format(missing=" and ".join(missing)))
        if self.online_teacher and not self.teacher:
            raise ConfigError("--online-teacher wants --teacher NAME, such as resnet152")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"--{name} {getattr(self, name)}: wanted at least 1")
        if self.val_share is not None and not 0 < self.val_share < 1:
            raise ConfigError(f"--val_share {self.val_share}: wanted a number between 0 and 1, such as 0.02")
        if self.val_share is not None and self.val_data:
            raise ConfigError(f"--val_share {self.val_share} and --val_data {self.val_data}: give one of them")
        if self.val_store and self.val_data == NO_VALIDATION:
            raise ConfigError(f"--val_store {self.val_store}: there is no validation with --val_data none")
        if self.class_map and not self.online_teacher:
            raise ConfigError("--class_map: is for a live teacher; a store has the map that it was cached with")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"--ema_decay {self.ema_decay}: wanted a number between 0 and 1")
        for name in ("clip_grad", "checkpoint_minutes"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ConfigError(f"--{name} {getattr(self, name)}: wanted a number above 0")

    @property
    def stores(self) -> list[str]:
        """The stores' places, none where there is no store."""
        return [self.store] if isinstance(self.store, str) else self.store or []

    @property
    def autocast(self) -> Precision:
        """The precision that is meant on this machine."""
        return fast_precision() if self.precision == "auto" else self.precision

    @property
    def loss_function(self) -> NamedLoss:
        """The loss with the settings that were given."""
        names = ("temperature", "alpha", "beta", "gamma", "label_smoothing", "tail", "global_batch")
        settings = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.approximate_teacher:
            settings["approximate"] = True
        return build_loss(self.loss, standardize=self.standardize, **settings)
