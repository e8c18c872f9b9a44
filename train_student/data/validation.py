"""Open the validation images: another dataset, a share of the training images, or none."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
from jaxtyping import Int64

from pld.classes.matching import shorten_list
from pld.errors import ConfigError, DataError, NoLabelsError
from pld.images import Source, open_source
from pld.images.sources.keys import NO_MATCH, find_keys, match_keys
from train_student.option_groups import NO_VALIDATION, ValidationOptions

# Images that are read to count those which are in both sets.
_ENOUGH = 1000
_WAYS = "name other images with --val_data, hold some out with --val_share 0.02, or go without: --val_data none"
_LABELLED_WAYS = "Validation needs labels: name labelled images with --val_data, or go without: --val_data none"


def open_validation(
    options: ValidationOptions, train: Source, data: str, class_names: tuple[str, ...] | None
) -> tuple[Source, Source | None, str]:
    """The images to train on, those to validate on, and what these are, in words.

    Args:
        options: which.
        train: the training images under their own keys.
        data: where these are; validation images are looked for there too.
        class_names: as `open_source`.

    Raises:
        DataError: validation images that are training images too, or that cannot be used.
        ConfigError: a share that leaves no image on one side.
    """
    if options.val_data == NO_VALIDATION:
        return train, None, "none"
    if options.val_share is not None:
        return _held_out(train, options.val_share)
    location = options.val_data or data
    try:
        val = open_source(location, options.val_split, default_class_names=class_names)
    except NoLabelsError as error:
        raise DataError(f"validation: {error.found}. {_LABELLED_WAYS}") from error
    except DataError as error:
        if train.labels is None:
            raise DataError(f"validation: {error}. {_LABELLED_WAYS}") from error
        raise error if options.val_data else DataError(f"validation: {error}. Or: {_WAYS}") from error
    _check_apart(train, val)
    return train, val, f"{location}, {options.val_split}"


def _held_out(train: Source, share: float) -> tuple[Source, Source, str]:
    """Images are held out by their keys alone: the same ones in any subset and in every run."""
    chosen = np.array([_fraction(key) < share for key in train.keys.tolist()], dtype=np.bool_)
    if chosen.all() or not chosen.any():
        raise ConfigError(
            f"--val_share {share}: holds out {int(chosen.sum())} of {len(train)} images; give another share"
        )
    kept = train.subset(~chosen)
    if gone := sorted({*train.known_labels().tolist()} - {*kept.known_labels().tolist()}):
        names = [train.class_names[label] if train.class_names else str(label) for label in gone]
        kept = kept.with_notes(
            f"--val_share {share} holds out every image of {len(gone)} classes: {shorten_list(names)}"
        )
    return kept, train.subset(chosen), f"{100 * share:g} % of the training images, held out by key"


def _fraction(key: bytes) -> float:
    """A number in 0..1 that is the key's own."""
    return int.from_bytes(hashlib.sha256(b"val_share/" + key).digest()[:8], "big") / 2**64


def _check_apart(train: Source, val: Source) -> None:
    rows = _rows_in(train, val)
    common = np.flatnonzero(rows != NO_MATCH)
    pairs = zip(rows[common].tolist(), common.tolist(), strict=True)
    shared = list(itertools.islice((row for row, val_row in pairs if _is_the_same(train, row, val, val_row)), _ENOUGH))
    if shared:
        more = " or more" if len(shared) == _ENOUGH else ""
        raise DataError(
            f"validation: {len(shared):,}{more} of the {len(val):,} images of {val.location} are training images too, "
            f"the first: {train.key(shared[0])} ({len(common):,} keys are in both). Validation on what is trained on "
            f"says nothing; {_LABELLED_WAYS if train.labels is None else _WAYS}"
        )


def _rows_in(train: Source, val: Source) -> Int64[np.ndarray, "V"]:
    """The training row of each validation key, also where paths differ in leading folders; NO_MATCH for others."""
    try:
        return match_keys(val.keys, train.keys)
    except DataError:  # two validation images would be one: then only the same keys say something
        return find_keys(val.keys, train.keys)


def _is_the_same(train: Source, row: int, val: Source, val_row: int) -> bool:
    """Whether images of one key are one image: images that are numbered anew in each split have the same keys."""
    if _place(train, row) == _place(val, val_row):
        return True
    return train.num_bytes(row) == val.num_bytes(val_row) and train.read(row) == val.read(val_row)


def _place(source: Source, row: int) -> tuple[str, int]:
    return source.files[source.file_index[row]], int(source.offsets[row])
