"""What is trained on: images, the store that goes with them, and the views both agree on."""

from __future__ import annotations

import dataclasses

import numpy as np

from pld.errors import ConfigError, DataError, NotCachedError, StoreError
from pld.images import Source, open_source
from pld.store import Store, open_store
from pld.views import DRAWING_VERSION, Policy, policy_from_json
from train_student.config import TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Everything that a run reads.

    Attributes:
        train: the images to train on, those that the store had to skip left out.
        val: the validation images.
        store: of the teacher's logits, if one is used.
        policy: how views are drawn: the store's, else the dataset's.
        num_views: how many views to cycle through; None draws a new one each epoch.
        num_classes: C.
        num_skipped: training images left out because the store skipped them.
    """

    train: Source
    val: Source
    store: Store | None
    policy: Policy
    num_views: int | None
    num_classes: int
    num_skipped: int

    def view_of_epoch(self, epoch: int) -> int:
        """The view that an epoch trains on."""
        return epoch % self.num_views if self.num_views else epoch


def open_training_data(config: TrainConfig) -> TrainingData:
    """Open images and store, and check that they belong together.

    Raises:
        DataError: images that cannot be used, or labels that are not the store's.
        StoreError: a store of another dataset or view drawing, or without the wanted views.
        ConfigError: the number of classes is not known.
    """
    train = open_source(config.data, config.split)
    val = open_source(config.val_data or config.data, config.val_split)
    store = open_store(config.store) if config.store else None
    num_all = len(train)
    if store:
        train = _checked_against(store, train)
    num_classes = _num_classes(config, train, store)
    for source in (train, val):
        if int(source.labels.max()) >= num_classes:
            raise DataError(f"{source.location}: label {source.labels.max()}, but there are {num_classes} classes")
    return TrainingData(
        train=train,
        val=val,
        store=store,
        policy=_store_policy(store) if store else dataclasses.replace(train.policy, seed=config.seed),
        num_views=_num_views(config, store),
        num_classes=num_classes,
        num_skipped=num_all - len(train),
    )


def _checked_against(store: Store, source: Source) -> Source:
    """The source without what the store had to skip; its labels and label space are the store's."""
    names = store.manifest.identity.dataset.class_names
    if names != source.class_names and names is not None and source.class_names is not None:
        first = next((pair for pair in zip(names, source.class_names, strict=False) if pair[0] != pair[1]), None)
        differ = f"the first that differs: {first[0]!r}, here {first[1]!r}" if first else "their numbers differ"
        raise DataError(
            f"{source.location}: {len(source.class_names)} classes; {store.url} was made with {len(names)}; {differ}. "
            "Train on the dataset that was cached, or cache this one"
        )
    skipped = np.array([key.encode() for key in store.skipped], dtype=np.bytes_)
    if len(skipped):
        source = source.subset(~np.isin(source.keys, skipped))
    different = np.flatnonzero(store.labels[store.rows(source.keys)] != source.labels)
    if len(different):
        row = int(different[0])
        raise DataError(
            f"{source.location}: {len(different)} of {len(source)} labels are not those of {store.url}, "
            f"the first: sample {source.key(row)} has {source.labels[row]}"
        )
    return source


def _store_policy(store: Store) -> Policy:
    views = store.manifest.identity.views
    if views.drawing_version != DRAWING_VERSION:
        raise StoreError(
            f"{store.url}: its views were drawn by version {views.drawing_version}, this package draws "
            f"{DRAWING_VERSION}; install the package that wrote it, or cache again"
        )
    return policy_from_json({**views.policy, "seed": views.seed})


def _num_views(config: TrainConfig, store: Store | None) -> int | None:
    if store is None:
        return config.views
    if config.views and config.views > store.num_views:
        raise NotCachedError(
            f"{store.url}: holds views 0..{store.num_views - 1}; --views {config.views} wants 0..{config.views - 1}: "
            f"make cache VIEWS={config.views} adds them"
        )
    return config.views or store.num_views


def _num_classes(config: TrainConfig, source: Source, store: Store | None) -> int:
    known = {
        "the store's teacher": store.manifest.identity.teacher.num_classes if store else None,
        "the dataset's class names": len(source.class_names) if source.class_names else None,
        "--num_classes": config.num_classes,
    }
    found = {where: number for where, number in known.items() if number is not None}
    if not found:
        raise ConfigError(f"{source.location}: does not say how many classes there are; give --num_classes")
    if len(set(found.values())) > 1:
        raise ConfigError(f"the number of classes: {', '.join(f'{where} {n}' for where, n in found.items())}")
    return next(iter(found.values()))
