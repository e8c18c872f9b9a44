"""What a store's numbers depend on. Two stores of one identity are interchangeable; its digest is the fingerprint."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import numpy as np
from jaxtyping import Integer, Shaped
from msgspec import Meta

from pld.errors import ConfigError, SignalError
from pld.precision import Precision
from pld.signals import check_error, check_tail_samples, rounding_error
from pld.store.format.canonical import OPTIONAL, canonical_json, sha256_hex
from pld.store.format.samples import samples_digest
from pld.store.format.typed_json import Number, Sha256

FORMAT_VERSION: Final = 1
DEFAULT_TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 4.0)
MAX_CLASSES = 2**20
# Of a step of the grid, how much a log-probability is off at most: half, and room for float32 and clamping.
_ROUNDED = 0.51

Decoder = Literal["cpu", "nvjpeg"]
NumSamples = Annotated[int, Meta(ge=1, le=2**40)]
_NumClasses = Annotated[int, Meta(ge=1, le=MAX_CLASSES)]
_Side = Annotated[int, Meta(ge=1, le=2**16)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassMap:
    """Which of a model's classes a store keeps: its softmax is restricted to them and renormalised.

    Attributes:
        model_classes: how many the model has.
        columns: for each of the store's classes its number in the model.

    Raises:
        ConfigError: a column is none of the model's, or comes twice.
    """

    model_classes: _NumClasses
    columns: tuple[int, ...]

    def __post_init__(self) -> None:
        known = set(self.columns)
        if len(known) != len(self.columns) or not known <= set(range(self.model_classes)):
            raise ConfigError(
                f"a class map to {self.model_classes} classes: wanted integers in 0..{self.model_classes - 1} as its "
                "columns, and one comes twice or is none of these"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherIdentity:
    """The teacher and how pixels are fed to it.

    Attributes:
        name: architecture, in timm's words; of other libraries' models with their prefix, e.g. "torchvision:resnet50".
        tag: the weights' tag, "" where they have none.
        weights_sha256: sha256 of the weights, 64 hexadecimal digits.
        num_classes: C of the logits that are kept: the dataset's classes.
        input_size: (height, width) in pixels.
        mean, std: per channel, of pixels scaled to 0..1.
        interpolation: of the resize, e.g. "bicubic".
        precision: what the forward pass ran in.
        class_map: which of the model's classes these are; None where they are all of them, in their order.
        code_sha256: of what says how the model computes, besides its name: its source code, or transformers'
            config.json; None for models of timm and torchvision.

    Raises:
        ConfigError: the class map lacks a class for some of num_classes.
    """

    name: str
    tag: str
    weights_sha256: Sha256
    num_classes: _NumClasses
    input_size: tuple[_Side, _Side]
    mean: tuple[Number, ...]
    std: tuple[Number, ...]
    interpolation: str
    precision: Precision
    class_map: ClassMap | None = dataclasses.field(default=None, metadata=OPTIONAL)
    code_sha256: Sha256 | None = dataclasses.field(default=None, metadata=OPTIONAL)

    @property
    def full_name(self) -> str:
        """Name and tag, as `--teacher` takes them of timm's and torchvision's models."""
        return f"{self.name}.{self.tag}" if self.tag else self.name

    def __post_init__(self) -> None:
        _make_floats(self, "mean", "std")
        if self.class_map and len(self.class_map.columns) != self.num_classes:
            raise ConfigError(f"a class map of {len(self.class_map.columns)} columns for {self.num_classes} classes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewIdentity:
    """How views are made of images.

    Attributes:
        policy: how they are drawn: its name and parameters, JSON that is opaque here.
        seed: of the drawing.
        drawing_version: of the package's drawing.
        decoder: who made pixels of the files: "cpu" is libjpeg-turbo, or "nvjpeg".
    """

    policy: Mapping[str, Any]
    seed: Annotated[int, Meta(ge=0)]
    drawing_version: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    decoder: Decoder = dataclasses.field(default="cpu", metadata=OPTIONAL)

    def __post_init__(self) -> None:
        if self.seed >= 2**64:
            raise ConfigError(f"view seed {self.seed}: wanted an integer in 0..2^64-1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetIdentity:
    """The samples.

    Attributes:
        digest: `dataset_digest` of all keys and labels.
        num_samples: their count.
        class_names: the label space where it is known; of images without labels that of the teacher.
        labelled: whether the samples have labels; if not, no array and no figure of a label is stored.
    """

    digest: Sha256
    num_samples: NumSamples
    class_names: tuple[str, ...] | None
    labelled: bool = dataclasses.field(default=True, metadata=OPTIONAL)


def grid_for(error: float | None) -> float:
    """The grid, nats, on which a store with an error takes the fewest bytes; the default one without an error.

    It is the default where rounding to that costs at most an eighth of the error, and else a finer one. Each number
    then takes up to 1.6 bits more, but more of the error is left to the tail, and that saves whole classes.
    """
    share = np.inf if error is None else error / 8
    fitting = [steps / 256 for steps in (3, 2) if rounding_error(_ROUNDED * steps / 256) <= share]
    return (fitting or [1 / 256])[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodecIdentity:
    """What is kept of the logits: k classes, log-probabilities on a grid (nats), tails at these temperatures.

    `tail_samples` more classes are drawn from the tail, by their probabilities at the largest of the temperatures.
    With an `error` each row lists as few of the k classes as keep PLD's gradient error bound at T = 1 at most that.

    Raises:
        ConfigError: the grid is not a multiple of 1/256 up to 1/8, or the temperatures do not rise from at least 1/8
            to at most 8 with 1 among them. Inside these limits FORMAT.md's proof of the rounding bound holds. Or the
            error is not above what rounding to the grid alone costs, or not below 2.
    """

    k: _NumClasses
    grid: Number = 3 / 256
    temperatures: tuple[Number, ...] = DEFAULT_TEMPERATURES
    tail_samples: Annotated[int, Meta(ge=0, le=MAX_CLASSES)] = dataclasses.field(default=0, metadata=OPTIONAL)
    error: Number | None = dataclasses.field(default=None, metadata=OPTIONAL)

    def __post_init__(self) -> None:
        _make_floats(self, "temperatures")
        if self.grid not in {steps / 256 for steps in range(1, 33)}:
            raise ConfigError(f"grid = {self.grid!r} nats: wanted a multiple of 1/256, from 1/256 to 1/8")
        held = self.temperatures
        if list(held) != sorted(set(held)) or 1.0 not in held or not 1 / 8 <= held[0] <= held[-1] <= 8:
            raise ConfigError(f"temperatures {held}: wanted rising ones from 1/8 to 8 with 1 among them")
        if not 1 <= self.k <= MAX_CLASSES:
            raise ConfigError(f"k = {self.k}: wanted 1 to {MAX_CLASSES}")
        if not 0 <= self.tail_samples <= MAX_CLASSES:
            raise ConfigError(f"tail_samples = {self.tail_samples}: wanted 0 to {MAX_CLASSES}")
        if self.error is not None:
            object.__setattr__(self, "error", float(self.error))  # 1 and 1.0 are the same number, but not the same JSON
            try:
                check_error(self.error, self.logprob_error)
            except SignalError as error:
                raise ConfigError(str(error)) from None

    @property
    def logprob_error(self) -> float:
        """The largest rounding of a decoded log-probability, nats."""
        return _ROUNDED * self.grid

    def holds_all(self, num_classes: int) -> bool:
        """Whether every row lists every class by construction, so that there is no tail."""
        return self.k == num_classes and self.error is None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything the numbers depend on.

    Raises:
        ConfigError: k is larger than the teacher's classes, the tail may have fewer classes than are drawn from it, or
            the class names are not one per class.
    """

    teacher: TeacherIdentity
    views: ViewIdentity
    dataset: DatasetIdentity
    codec: CodecIdentity
    format_version: Literal[1] = FORMAT_VERSION

    def __post_init__(self) -> None:
        num_classes, names = self.teacher.num_classes, self.dataset.class_names
        if self.codec.k > num_classes:
            raise ConfigError(f"k = {self.codec.k}: the teacher has {num_classes} classes; choose k up to that")
        if self.codec.tail_samples:
            try:
                check_tail_samples(self.codec.tail_samples, self.codec.k, num_classes, labelled=self.dataset.labelled)
            except SignalError as error:
                raise ConfigError(str(error)) from None
        if names is not None and len(names) != num_classes:
            raise ConfigError(f"{len(names)} class names, and a teacher with {num_classes} classes: they do not fit")

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON of the identity."""
        return sha256_hex(canonical_json(self))

    def to_json(self) -> dict[str, Any]:
        """The identity as plain JSON values, as in store.json."""
        plain: dict[str, Any] = json.loads(canonical_json(self))
        return plain


def dataset_digest(keys: Shaped[np.ndarray, "N"], labels: Integer[np.ndarray, "N"] | None) -> str:
    """sha256 over the dataset's (key, label) pairs in the order of their keys: re-sharding keeps it.

    Args:
        keys: distinct, UTF-8, as a fixed-width 'S' array.
        labels: class indices of the same length; None for images without labels, whose keys alone count.
    """
    order = np.argsort(keys, kind="stable")
    return samples_digest(keys[order], None if labels is None else labels[order])


def _make_floats(instance: object, *names: str) -> None:
    """1 and 1.0 are the same number, but not the same JSON."""
    for name in names:
        object.__setattr__(instance, name, tuple(float(value) for value in getattr(instance, name)))
