"""What Parquet and Arrow files of Hugging Face datasets share: their columns, class names, labels and keys."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64, Shaped
from numpy import ndarray

from pld.classes.imagenet import recognise_imagenet
from pld.classes.matching import shorten_list
from pld.classes.names import check_names
from pld.errors import ConfigError, DataError, NoLabelsError
from pld.images.sources.description import GivenClasses
from pld.images.sources.forms.flat_images import number_classes
from pld.images.sources.image_files import is_image_name
from pld.images.sources.keys import sample_keys

_IMAGES, _LABELS = ("image", "img"), ("label", "labels", "fine_label")
# ILSVRC/imagenet-1k appends the class to ImageNet's own file names.
_WITH_CLASS = re.compile(r"((n\d{8})_\d+)_\2|(ILSVRC2012_val_\d{8})_n\d{8}")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Columns(NamedTuple):
    """Where images and labels are, and the labels' names, if the file has them; no label where none is wanted."""

    image: str
    has_path: bool
    label: str | None
    class_names: tuple[str, ...] | None


def find_columns(schema: pa.Schema, where: str, *, unlabelled: bool) -> Columns:
    """Find the columns of a file, with `unlabelled` only the images'.

    The image is the only column with bytes and a path, or the one named image or img; the label is the column label,
    labels or fine_label, else the only one with class names. Names that are ImageNet's become its WordNet ids.

    Raises:
        DataError: there is none, or several could be meant.
    """
    features = _features(schema, where)
    images = [field.name for field in schema if _is_image(field.type)]
    labels = [
        field.name
        for field in schema
        if pa.types.is_integer(field.type) or pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    image = _choose(images, _IMAGES, images, "an image (a struct of bytes and path)", schema, where)
    kind = schema.field(image).type
    has_path = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
    if has_path and not _is_text(kind.field(kind.get_field_index("path")).type):
        found = kind.field(kind.get_field_index("path")).type
        raise DataError(
            f"{where}: the paths in its column {image!r} are {found}, wanted text; write a copy without them"
        )
    if unlabelled:
        return Columns(image, has_path, None, None)
    label = _choose(labels, _LABELS, [n for n in labels if _names_of(features, n)], "a label", schema, where)
    names = _names_of(features, label)
    try:
        checked = None if names is None else recognise_imagenet(names) or check_names(names, where)
    except ConfigError as error:
        raise DataError(str(error)) from error
    return Columns(image, has_path, label, checked)


def number_labels(values: Sequence[Any], columns: Columns, given: GivenClasses, where: str) -> Labels:
    """The class numbers of a column's values, and the class names: the file's, else those given; none unlabelled.

    Raises:
        DataError: a value is missing or negative, as in test splits, or has no name; or the stated names contradict
            the file's.
    """
    if columns.label is None:
        return Labels(None, None)
    if missing := sum(value is None or (isinstance(value, int) and value < 0) for value in values):
        raise NoLabelsError(
            f"{where}: {missing:,} of {len(values):,} images have no label in the column {columns.label!r}, as in "
            "test splits; name a split with labels by --split"
        )
    if values and isinstance(values[0], str):
        numbers, names = number_classes(values, given.override or given.default, where)
        return Labels(numbers, names)
    stated = given.override
    if stated and columns.class_names and stated.names != columns.class_names:
        raise DataError(
            f"{where}: its labels number the {len(columns.class_names)} classes that the file names, "
            f"{shorten_list(columns.class_names)}; {stated.origin} lists {len(stated.names)}, "
            f"{shorten_list(stated.names)}. Leave {stated.origin} out"
        )
    fallback = given.override or given.default
    class_names = columns.class_names or (fallback.names if fallback else None)
    try:
        numbers = np.array(values, dtype=np.int64)
    except OverflowError as error:
        raise DataError(f"{where}: label {max(values)}, wanted class indexes of 64 bits at most") from error
    if class_names and len(numbers) and int(numbers.max()) >= len(class_names):
        raise DataError(f"{where}: label {numbers.max()}, but there are names of {len(class_names)} classes")
    return Labels(numbers, class_names)


class Labels(NamedTuple):
    """Class numbers, int64 [N], and the names of the classes."""

    numbers: Int64[ndarray, "N"] | None
    class_names: tuple[str, ...] | None


def row_keys(
    paths: Sequence[str | None], rows: Sequence[str], where: Sequence[str]
) -> tuple[Shaped[ndarray, "N"], str | None]:
    """Keys from the images' paths; from the files' rows, with a note, where paths are missing, repeated or odd.

    Args:
        paths: of the images, as the file has them.
        rows: FILE/ROW of each, without dots.
        where: for errors.
    """
    stems = [_stem(path) for path in paths]
    if all(stem is not None for stem in stems) and len(set(stems)) == len(stems):
        return sample_keys([stem.encode() for stem in stems if stem is not None], where), None
    note = "images have no paths that tell them apart, so keys are FILE/ROW: they hold for these files alone"
    return sample_keys([row.encode() for row in rows], where), note


def _stem(path: str | None) -> str | None:
    """The key that a path gives: ImageNet's own name where the hub appended the class; None for odd paths."""
    if not path or not is_image_name(path) or _CONTROL.search(path):
        return None
    stem = path.rpartition(".")[0].replace("\\", "/").lstrip("/")
    folder, _, name = stem.rpartition("/")
    if "." in name or not name or any(part in ("", ".", "..") for part in folder.split("/") if folder):
        return None
    if match := _WITH_CLASS.fullmatch(name):
        name = match[1] or match[3]
    return f"{folder}/{name}" if folder else name


class BytePlaces(NamedTuple):
    """Where the values of a column of bytes lie.

    Attributes:
        data: the buffer that holds them; None if there are no bytes.
        bounds: int64 [2, N], their first byte in it and the one after their last.
        present: bool [N], whether there is a value.
    """

    data: pa.Buffer | None
    bounds: Int64[ndarray, "2 N"]
    present: Bool[ndarray, "N"]


def byte_places(column: pa.Array) -> BytePlaces:
    """Find the bytes of a column of images, or of structs with a field `bytes`; raises ValueError if it is damaged."""
    column.validate()
    values = column.field("bytes") if pa.types.is_struct(column.type) else column
    _, offsets, data = values.buffers()
    kind = "<i8" if pa.types.is_large_binary(values.type) else "<i4"
    ends = np.frombuffer(offsets, dtype=kind)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    if (np.diff(ends) < 0).any() or ends[0] < 0 or ends[-1] > (data.size if data is not None else 0):
        raise ValueError("images that lie outside their column")
    present = _is_present(column) & _is_present(values)
    return BytePlaces(data, np.stack([ends[:-1], ends[1:]]), present)


def _is_present(array: pa.Array) -> Bool[ndarray, "N"]:
    """Whether there is a value; pyarrow's own conversion to NumPy would import pandas, 100 MB."""
    return np.ones(len(array), dtype=bool) if not array.null_count else np.array(array.is_valid().to_pylist())


def _is_image(kind: pa.DataType) -> bool:
    return _is_bytes(kind) or (
        pa.types.is_struct(kind)
        and kind.get_field_index("bytes") >= 0
        and _is_bytes(kind.field(kind.get_field_index("bytes")).type)
    )


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _choose(
    found: Sequence[str], preferred: Sequence[str], candidates: Sequence[str], what: str, schema: pa.Schema, where: str
) -> str:
    for name in preferred:
        if name in found:
            return name
    if len(candidates) == 1:
        return candidates[0]
    columns = ", ".join(f"{field.name} ({str(field.type)[:40]})" for field in list(schema)[:20])
    raise DataError(
        f"{where}: no column of {what} that is named {' or '.join(preferred)}, and {len(candidates)} others that could "
        f"be it; it has {columns}. Write a copy with that name"
    )


def _features(schema: pa.Schema, where: str) -> Mapping[str, Any]:
    """The columns' descriptions in the file's own metadata."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return {}
    try:
        features = json.loads(text)["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{where}: its metadata of Hugging Face cannot be read: {error!r}; download it again"
        ) from error
    return features if isinstance(features, dict) else {}


def _names_of(features: Mapping[str, Any], column: str) -> list[str] | None:
    described = features.get(column)
    names = described.get("names") if isinstance(described, dict) else None
    return names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None
