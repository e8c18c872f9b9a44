"""What a store's numbers depend on. Two stores of one identity are interchangeable; its digest is the fingerprint."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

import numpy as np
from jaxtyping import Integer, Shaped

from pld.errors import ConfigError
from pld.precision import Precision
from pld.store.format.canonical import canonical_json, sha256_hex
from pld.store.format.fields import SHA256, Fields

FORMAT_VERSION = 1
DEFAULT_TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 4.0)
MAX_CLASSES = 2**20
MAX_SAMPLES = 2**40
_PRECISIONS = re.compile("|".join(get_args(Precision)))

Decoder = Literal["cpu", "nvjpeg"]
_OTHER_DECODERS = re.compile("nvjpeg")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassMap:
    """Which of a model's classes a store keeps: its softmax is restricted to them and renormalised.

    Attributes:
        model_classes: how many the model has.
        columns: for each of the store's classes its number in the model.

    Raises:
        ConfigError: a column is none of the model's, or comes twice.
    """

    model_classes: int
    columns: tuple[int, ...]

    def __post_init__(self) -> None:
        known = set(self.columns)
        if len(known) != len(self.columns) or not known <= set(range(self.model_classes)):
            raise ConfigError(f"a class map to {self.model_classes} classes: a column is none of them or comes twice")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherIdentity:
    """The teacher and how pixels are fed to it.

    Attributes:
        name: architecture, in timm's words.
        tag: the weights' tag, "" where they have none.
        weights_sha256: sha256 of the weights, 64 hexadecimal digits.
        num_classes: C of the logits that are kept: the dataset's classes.
        input_size: (height, width) in pixels.
        mean, std: per channel, of pixels scaled to 0..1.
        interpolation: of the resize, e.g. "bicubic".
        precision: what the forward pass ran in.
        class_map: which of the model's classes these are; None where they are all of them, in their order.

    Raises:
        ConfigError: the class map lacks a class for some of num_classes.
    """

    name: str
    tag: str
    weights_sha256: str
    num_classes: int
    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    precision: Precision
    class_map: ClassMap | None = None

    def __post_init__(self) -> None:
        _make_floats(self, "mean", "std")
        if self.class_map and len(self.class_map.columns) != self.num_classes:
            raise ConfigError(f"a class map of {len(self.class_map.columns)} columns for {self.num_classes} classes")

    def to_json(self) -> dict[str, Any]:
        """As it is in store.json, where the class map is left out if there is none."""
        return {name: value for name, value in dataclasses.asdict(self).items() if (name, value) != ("class_map", None)}


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
    seed: int
    drawing_version: int
    decoder: Decoder = "cpu"

    def to_json(self) -> dict[str, Any]:
        """As it is in store.json, where the decoder is named only if it is not the CPU's."""
        return {name: value for name, value in vars(self).items() if (name, value) != ("decoder", "cpu")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetIdentity:
    """The samples: `dataset_digest` of all keys and labels, their count, and the label space where it is known."""

    digest: str
    num_samples: int
    class_names: tuple[str, ...] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodecIdentity:
    """What is kept of the logits: k classes, log-probabilities on a grid (nats), tails at these temperatures.

    Raises:
        ConfigError: the grid is not a multiple of 1/256 up to 1/8, or the temperatures do not rise from at least 1/8
            to at most 8 with 1 among them. Inside these limits FORMAT.md's proof of the rounding bound holds.
    """

    k: int
    grid: float = 3 / 256
    temperatures: tuple[float, ...] = DEFAULT_TEMPERATURES

    def __post_init__(self) -> None:
        _make_floats(self, "temperatures")
        if self.grid not in {steps / 256 for steps in range(1, 33)}:
            raise ConfigError(f"grid = {self.grid!r} nats: wanted a multiple of 1/256, from 1/256 to 1/8")
        held = self.temperatures
        if list(held) != sorted(set(held)) or 1.0 not in held or not 1 / 8 <= held[0] <= held[-1] <= 8:
            raise ConfigError(f"temperatures {held}: wanted rising ones from 1/8 to 8 with 1 among them")
        if not 1 <= self.k <= MAX_CLASSES:
            raise ConfigError(f"k = {self.k}: wanted 1 to {MAX_CLASSES}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything the numbers depend on.

    Raises:
        ConfigError: k is larger than the teacher's classes, or the class names are not one per class.
    """

    teacher: TeacherIdentity
    views: ViewIdentity
    dataset: DatasetIdentity
    codec: CodecIdentity
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        num_classes, names = self.teacher.num_classes, self.dataset.class_names
        if self.codec.k > num_classes:
            raise ConfigError(f"k = {self.codec.k}: the teacher has {num_classes} classes; choose k up to that")
        if names is not None and len(names) != num_classes:
            raise ConfigError(f"{len(names)} class names, and a teacher with {num_classes} classes: they do not fit")

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON of the identity."""
        return sha256_hex(canonical_json(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """The identity as plain JSON values."""
        # Through JSON once, so that a tuple and a list, or a policy of another mapping type, are the same.
        plain: dict[str, Any] = json.loads(
            canonical_json(
                {**dataclasses.asdict(self), "teacher": self.teacher.to_json(), "views": self.views.to_json()}
            )
        )
        return plain

    @classmethod
    def from_json(cls, value: Any, where: str) -> Identity:
        """The identity that `to_json` gave; CorruptStoreError names the field that cannot be one."""
        top = Fields(value, where)
        identity = cls(
            teacher=_teacher(top.fields("teacher")),
            views=_views(top.fields("views")),
            dataset=_dataset(top.fields("dataset")),
            codec=_codec(top.fields("codec")),
            format_version=top.integer("format_version", FORMAT_VERSION, FORMAT_VERSION),
        )
        top.done()
        return identity


def dataset_digest(keys: Shaped[np.ndarray, "N"], labels: Integer[np.ndarray, "N"]) -> str:
    """sha256 over the dataset's (key, label) pairs in the order of their keys: re-sharding keeps it.

    Args:
        keys: distinct, UTF-8, as a fixed-width 'S' array.
        labels: class indices of the same length.
    """
    order = np.argsort(keys, kind="stable")
    digest = hashlib.sha256()
    for key, label in zip(keys[order].tolist(), labels[order].tolist(), strict=True):
        digest.update(b"%s\t%d\n" % (key, label))
    return digest.hexdigest()


def _make_floats(instance: object, *names: str) -> None:
    """1 and 1.0 are the same number, but not the same JSON."""
    for name in names:
        object.__setattr__(instance, name, tuple(float(value) for value in getattr(instance, name)))


def _teacher(fields: Fields) -> TeacherIdentity:
    height, width = fields.integers("input_size", 1, 2**16, count=2)
    precision = cast(Precision, fields.text("precision", _PRECISIONS))
    teacher = TeacherIdentity(
        name=fields.text("name"),
        tag=fields.text("tag"),
        weights_sha256=fields.text("weights_sha256", SHA256),
        num_classes=fields.integer("num_classes", 1, MAX_CLASSES),
        input_size=(height, width),
        mean=fields.numbers("mean"),
        std=fields.numbers("std"),
        interpolation=fields.text("interpolation"),
        precision=precision,
        class_map=_class_map(fields.fields("class_map")) if fields.has("class_map") else None,
    )
    fields.done()
    return teacher


def _class_map(fields: Fields) -> ClassMap:
    model_classes = fields.integer("model_classes", 1, MAX_CLASSES)
    columns = tuple(fields.integers("columns", 0, model_classes - 1, count=len(fields.items("columns"))))
    fields.done()
    return ClassMap(model_classes=model_classes, columns=columns)


def _views(fields: Fields) -> ViewIdentity:
    views = ViewIdentity(
        policy=fields.mapping("policy"),
        seed=fields.integer("seed", 0, 2**64 - 1),
        drawing_version=fields.integer("drawing_version", 0, 2**31 - 1),
        decoder=cast(Decoder, fields.text("decoder", _OTHER_DECODERS)) if fields.has("decoder") else "cpu",
    )
    fields.done()
    return views


def _dataset(fields: Fields) -> DatasetIdentity:
    named = fields.take("class_names") is not None
    dataset = DatasetIdentity(
        digest=fields.text("digest", SHA256),
        num_samples=fields.integer("num_samples", 1, MAX_SAMPLES),
        class_names=fields.texts("class_names") if named else None,
    )
    fields.done()
    return dataset


def _codec(fields: Fields) -> CodecIdentity:
    codec = CodecIdentity(
        k=fields.integer("k", 1, MAX_CLASSES),
        grid=fields.number("grid"),
        temperatures=fields.numbers("temperatures"),
    )
    fields.done()
    return codec
