"""What is trained on: images, the store that goes with them, and the views both agree on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from pld.errors import ConfigError, DataError, NotCachedError
from pld.images import Source, open_source
from pld.images.nvjpeg import check_device
from pld.pairing import check_class_names, paired, stored_policy
from pld.probes import compare_probes
from pld.store import Decoder, Store, StoreGroup, open_store, open_stores
from pld.views import Policy
from train_student.config import TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Everything that a run reads.

    Attributes:
        train: the images to train on, those that the store had to skip left out.
        val: the validation images.
        store: of the teachers' logits, one or several read together, if they are used.
        policy: how views are drawn: the store's, else the dataset's.
        num_views: how many views to cycle through; None draws a new one each epoch.
        num_classes: C.
        num_skipped: training images left out because the store has no logits for them.
        val_store: of the teacher's logits for the validation images, if one is used.
        gpu: where nvJPEG decodes the training images, if it does.
        pixel_warning: how this machine's pixels differ from those that the teacher saw, if they do.
    """

    train: Source
    val: Source
    store: StoreGroup | None
    policy: Policy
    num_views: int | None
    num_classes: int
    num_skipped: int
    val_store: Store | None
    gpu: torch.device | None = None
    pixel_warning: str | None = None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The label space, where the store or the dataset states it."""
        return (self.store and self.store.class_names) or self.train.class_names

    @property
    def fingerprint(self) -> str | None:
        """The store's, if one is used."""
        return self.store.fingerprint if self.store else None

    def view_of_epoch(self, epoch: int) -> int:
        """The view that an epoch trains on."""
        return epoch % self.num_views if self.num_views else epoch


def open_training_data(config: TrainConfig, device: torch.device | None = None) -> TrainingData:
    """Open images and store, and check that they belong together.

    Args:
        config: which.
        device: where a run trains; None where no image is to be decoded there.

    Raises:
        DataError: images that cannot be used, or labels that are not the store's.
        StoreError: a store of another dataset or view drawing, or without the wanted views.
        ConfigError: the number of classes is not known, or the device cannot decode.
    """
    train = open_source(config.data, config.split)
    val = open_source(config.val_data or config.data, config.val_split)
    store = open_stores(config.stores, config.combine, config.seed) if config.stores else None
    members = store.members if store else ()
    num_all = len(train)
    policy = stored_policy(members[0]) if members else dataclasses.replace(train.policy, seed=config.seed)
    for member in members:
        train = paired(member, train, skip_missing=config.missing == "skip")
    gpu = device if _decoder(config, members) == "nvjpeg" else None
    if gpu:
        check_device(gpu)
    pixels = [compare_probes(member.probes, train, policy, member.url, gpu) for member in members]
    check_class_names(train.class_names, f"{train.location}, {config.split},", val)
    num_classes = _num_classes(config, train, store)
    for source in (train, val):
        if int(source.labels.max()) >= num_classes:
            raise DataError(f"{source.location}: label {source.labels.max()}, but there are {num_classes} classes")
    return TrainingData(
        train=train,
        val=val,
        store=store,
        policy=policy,
        num_views=_num_views(config, store),
        num_classes=num_classes,
        num_skipped=num_all - len(train),
        val_store=_open_val_store(config.val_store, val) if config.val_store else None,
        gpu=gpu,
        pixel_warning="; ".join(filter(None, pixels)) or None,
    )


def _decoder(config: TrainConfig, stores: Sequence[Store]) -> Decoder:
    """The one asked for, else that of the stores, which `open_stores` found to be one."""
    return config.decoder or (stores[0].manifest.identity.views.decoder if stores else "cpu")


def _open_val_store(url: str, val: Source) -> Store:
    store = open_store(url)
    if len(paired(store, val)) < len(val):
        raise DataError(f"{url}: lacks images of {val.location} that could not be decoded; leave --val_store out")
    return store


def _num_views(config: TrainConfig, store: StoreGroup | None) -> int | None:
    if store is None:
        return config.views
    if config.views and config.views > store.num_views:
        raise NotCachedError(
            f"{store.url}: holds views 0..{store.num_views - 1}; --views {config.views} wants 0..{config.views - 1}: "
            f"make cache VIEWS={config.views} adds them"
        )
    return config.views or store.num_views


def _num_classes(config: TrainConfig, source: Source, store: StoreGroup | None) -> int:
    known = {
        "the store's teacher": store.num_classes if store else None,
        "the dataset's class names": len(source.class_names) if source.class_names else None,
        "--num_classes": config.num_classes,
    }
    found = {where: number for where, number in known.items() if number is not None}
    if not found:
        raise ConfigError(f"{source.location}: does not say how many classes there are; give --num_classes")
    if len(set(found.values())) > 1:
        raise ConfigError(f"the number of classes: {', '.join(f'{where} {n}' for where, n in found.items())}")
    return next(iter(found.values()))
