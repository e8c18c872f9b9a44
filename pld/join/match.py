"""Match images with a store by key, and with a teacher by class name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64

from pld.classes.matching import Classes, drop_unlikely_names, match_classes
from pld.errors import ConfigError, DataError, NotCachedError, StoreError
from pld.images import Source
from pld.images.sources.keys import NO_MATCH, first_version_keys, match_keys
from pld.store import Store, dataset_digest
from pld.store.documents.manifest import Manifest
from pld.teachers import Teacher
from pld.views import DRAWING_VERSION, Policy, policy_from_json


def join_source(store: Store, source: Source, *, skip_missing: bool = False) -> Source:
    """Give a source the store's keys and label space, and leave out the images that the store had to skip.

    A store without labels has none to compare: a source's own, if it has some, stay.

    Args:
        store: the teacher's logits.
        source: the images.
        skip_missing: also leave out the images whose keys are not in the store.

    Raises:
        DataError: the label space or the labels differ, the store has labels and the source none, or two images match
            one key.
        NotCachedError: a key is not in the store, or with skip_missing no key is.
    """
    num_all = len(source)
    if store.is_labelled and source.labels is None:
        raise DataError(
            f"{source.location}: its images have no labels, but {store.url} holds labelled images, and PLD ranks "
            "the label first. Give the labelled images, without --unlabelled; or make a store without labels: "
            "cache-teacher --unlabelled"
        )
    source = _match_keys(store, source, skip_missing=skip_missing)
    if not len(source):
        raise NotCachedError(
            f"{source.location}: none of its {num_all} images has logits in {store.url}, whose keys begin with "
            f"{store.keys[0].decode()!r}; give the images that were cached"
        )
    source = relabel(source, store_classes(store))
    if store.labels is not None:
        _check_labels(store, source, store.labels[store.rows(source.keys)])
    return source


def _check_labels(store: Store, source: Source, stored: Int64[np.ndarray, "N"]) -> None:
    """Raise DataError unless a source's labels are those that the store has of its samples."""
    labels = source.known_labels()
    different = np.flatnonzero(stored != labels)
    if len(different):
        row = int(different[0])
        raise DataError(
            f"{source.location}: {len(different)} of {len(source)} labels are not those of {store.url}, "
            f"the first: sample {source.key(row)} has {labels[row]}, the store has {stored[row]}. Give the labels that "
            "were cached, or name the classes of these labels: --class_names FILE"
        )


def _match_keys(store: Store, source: Source, *, skip_missing: bool) -> Source:
    skipped = np.array([key.encode() for key in store.skipped], dtype=np.bytes_)
    held = np.concatenate([store.keys, skipped]) if len(skipped) else store.keys
    places = match_keys(source.keys, held)
    unknown = places == NO_MATCH
    if unknown.any() and not skip_missing:
        missing = [source.key(int(row)) for row in np.flatnonzero(unknown)[:3]]
        raise NotCachedError(
            f"{store.url}: {int(unknown.sum())} of {len(source)} samples of {source.location} are not in the store, "
            f"the first: {', '.join(missing)}; cache this dataset, train on the one that was cached, or leave these "
            "images out with --missing skip"
        )
    kept = ~unknown & (places < len(store.keys))
    return source.subset(kept).with_keys(store.keys[places[kept]])


def store_classes(store: Store) -> Classes:
    """A store's label space."""
    identity = store.manifest.identity
    return Classes(names=identity.dataset.class_names, count=identity.teacher.num_classes, owner=store.url)


def relabel(source: Source, wanted: Classes) -> Source:
    """Give a source the class numbers of a store or of the training images, matched by name.

    Numbers without names are kept; `join_source` compares them sample by sample. Images without labels get the names
    alone.

    Raises:
        DataError: a class of the source is not among the wanted ones, or nothing says which is which.
    """
    if source.labels is None:
        return _name_classes(source, wanted)
    if source.class_names is None:
        if len(source) and int(source.labels.max()) >= wanted.count:
            raise DataError(
                f"{source.location}: label {source.labels.max()}, but {wanted.owner} has {wanted.count} classes; give "
                "the images of that label space"
            )
        if wanted.names is None:
            return source
        return source.map_labels(range(wanted.count), wanted.names)
    if wanted.names is not None:  # a class without images may be missing from it
        used = np.unique(source.labels).tolist()
        names = tuple(source.class_names[label] for label in used)
        match = match_classes(Classes(names=names, count=len(names), owner=source.location), wanted)
        numbers = np.full(len(source.class_names), -1, dtype=np.int64)
        numbers[used] = match.numbers
        return source.map_labels(numbers, wanted.names)
    match = match_classes(source.classes, wanted)
    same = match.numbers == tuple(range(wanted.count))
    return source.map_labels(match.numbers, source.class_names if same else None).with_notes(match.note)


def _name_classes(source: Source, wanted: Classes) -> Source:
    """`relabel` for images without labels: the wanted names, of which the source's own are some."""
    if source.class_names is None:
        return dataclasses.replace(source, class_names=wanted.names)
    match = match_classes(source.classes, wanted)
    same = match.numbers == tuple(range(wanted.count))
    names = wanted.names or (source.class_names if same else None)
    return dataclasses.replace(source, class_names=names).with_notes(match.note)


def use_teacher_classes(teacher: Teacher, source: Source) -> Source:
    """Give images without labels and names of classes the teacher's; a note says where it states none."""
    if teacher.class_names and not teacher.names_inferred:
        return dataclasses.replace(source, class_names=teacher.class_names)
    return source.with_notes(
        f"{teacher.architecture} states no class names, so that labelled validation images will be matched by number; "
        "name its classes with --class_names FILE (imagenet-1k, if they are ImageNet's) to have them matched by name"
    )


def map_classes(
    teacher: Teacher, classes: Classes, class_map: Mapping[str, str] | None = None
) -> tuple[Teacher, str | None]:
    """Restrict a teacher to a dataset's classes, found among the model's by name.

    Args:
        teacher: as returned by `build_teacher`.
        classes: the dataset's.
        class_map: the dataset's class -> the model's, names or numbers, for classes whose names differ.

    Returns:
        The teacher, and a note on what had to be assumed; None if the names agree.

    Raises:
        DataError: the model lacks a class, or nothing says which class is which.
    """
    names = teacher.class_names
    if teacher.names_inferred and not class_map:
        names = drop_unlikely_names(names, classes)
    model = Classes(names=names, count=teacher.num_classes, owner=teacher.architecture)
    match = match_classes(classes, model, class_map, takes_map=True)
    unchanged = match.numbers == tuple(range(teacher.num_classes))
    return dataclasses.replace(teacher, columns=None if unchanged else match.numbers), match.note


def use_store_keys(manifest: Manifest | None, source: Source) -> Source:
    """Give a source the form of keys that an existing store has: the first version of this package wrote another."""
    if manifest is None:
        return source
    wanted = manifest.identity.dataset.digest
    if dataset_digest(source.keys, source.labels) == wanted:
        return source
    older = source.with_keys(first_version_keys(source.keys.tolist()))
    return older if dataset_digest(older.keys, older.labels) == wanted else source


def stored_policy(store: Store) -> Policy:
    """The policy that draws the store's views.

    Raises:
        StoreError: this package draws them differently.
        ConfigError: a step of the policy is of a plug-in that is not installed here.
    """
    views = store.manifest.identity.views
    if views.drawing_version != DRAWING_VERSION:
        raise StoreError(
            f"{store.url}: its views were drawn by version {views.drawing_version}, this package draws "
            f"{DRAWING_VERSION}; install the package that wrote it, or cache again"
        )
    try:
        return policy_from_json({**views.policy, "seed": views.seed})
    except ConfigError as error:
        raise ConfigError(f"{store.url}: {error}{_made_with(store)}") from error


def _made_with(store: Store) -> str:
    """The plug-ins that a store was made with, for messages."""
    plugins = store.manifest.provenance.get("plugins")
    if not isinstance(plugins, dict):
        return ""
    return f"; the store was made with {' and '.join(dict.fromkeys(map(str, plugins.values())))}"
