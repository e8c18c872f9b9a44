"""Open the training images, the store that goes with them, and the views both agree on."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence

import numpy as np
import torch

from pld.classes.matching import Classes, shorten_list
from pld.classes.names import read_class_names
from pld.errors import ConfigError, DataError, NoLabelsError
from pld.images import Source, open_source
from pld.join.match import join_source, relabel
from pld.join.pixel_probes import compare_probes
from pld.join.validation_store import ADVICE, join_validation
from pld.loading.nvjpeg import check_device
from pld.store import Store, StoreGroup, dataset_digest, open_store, open_stores
from pld.teachers import stated_identity
from pld.views import MixingPlan, Policy
from train_student.config import TrainConfig
from train_student.data.validation import open_validation
from train_student.data.view_policy import choose_policy, count_views, plan_training
from train_student.option_groups import DataOptions, TeacherOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Everything that a run reads.

    Attributes:
        train: the images to train on, those that the store had to skip left out.
        val: the validation images, if the run is validated.
        validation: what these are, in words.
        store: of the teachers' logits, one or several read together, if they are used.
        policy: how views are drawn: the store's, else the one asked for, else the dataset's.
        mixing: what the training images are mixed with, if the policy mixes them.
        num_views: how many views to cycle through; None draws new ones each epoch.
        views_per_image: how many of them an epoch trains on.
        num_classes: C.
        num_skipped: training images left out because the store has no logits for them.
        val_store: of the teacher's logits for the validation images, if one is used.
        gpu: where nvJPEG decodes the training images, if it does.
        pixel_warning: how this machine's pixels differ from those that the teacher saw, if they do.
        remarks: what the user should know of images and store, a sentence each.
    """

    train: Source
    val: Source | None
    store: StoreGroup | None
    policy: Policy
    num_views: int | None
    num_classes: int
    num_skipped: int
    val_store: Store | None
    mixing: MixingPlan | None = None
    views_per_image: int = 1
    gpu: torch.device | None = None
    pixel_warning: str | None = None
    validation: str = "none"
    remarks: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The label space, where the store or the dataset states it."""
        return (self.store and self.store.class_names) or self.train.class_names

    @property
    def validation_text(self) -> str:
        """What the run is validated on, for a line of output."""
        return f"{len(self.val):,} images, {self.validation}" if self.val else "none, as --val_data none says"

    @property
    def classes(self) -> Classes:
        """The label space."""
        return Classes(names=self.class_names, count=self.num_classes, owner=self.train.location)

    @property
    def fingerprint(self) -> str | None:
        """The store's, if one is used."""
        return self.store.fingerprint if self.store else None

    @functools.cached_property
    def digest(self) -> str:
        """Of the training images' keys and labels, and of the class names."""
        names = json.dumps(self.class_names)
        return hashlib.sha256(f"{dataset_digest(self.train.keys, self.train.labels)}{names}".encode()).hexdigest()

    def views_of_epoch(self, epoch: int) -> tuple[int, ...]:
        """The views that an epoch trains on, of every image."""
        views = range(epoch * self.views_per_image, (epoch + 1) * self.views_per_image)
        return tuple(view % self.num_views if self.num_views else view for view in views)


def open_training_data(config: TrainConfig, device: torch.device | None = None) -> TrainingData:
    """Open images and store, and check that they belong together.

    Args:
        config: the run's.
        device: where it trains; None where no image is to be decoded there.

    Raises:
        DataError: images that cannot be used, or labels that are not the store's.
        StoreError: a store of another dataset or view drawing, or without the wanted views.
        ConfigError: the number of classes is not known, the device cannot decode, or a setting needs labels that there
            are not.
    """
    options, validation_options, teacher, seed = config.data, config.validation, config.teacher, config.run.seed
    class_names = read_class_names(options.class_names)
    store = open_stores(teacher.stores, teacher.combine, seed) if teacher.stores else None
    train = _open_images(config, store, class_names)
    num_all = len(train)
    train, val, validation = open_validation(validation_options, train, options.images, class_names)
    num_held_out = num_all - len(train) if validation_options.val_share else 0
    members = store.members if store else ()
    policy = choose_policy(options.policy, train, members, seed)
    for member in members:
        train = join_source(member, train, skip_missing=options.missing == "skip")
    mixing = plan_training(train, policy, members, validation_options.val_share)
    views_per_image = config.optimizer.views_per_image
    # All stores have one decoder: open_stores checks.
    decoder = options.decoder or (members[0].manifest.identity.views.decoder if members else "cpu")
    gpu = device if decoder == "nvjpeg" else None
    if gpu:
        check_device(gpu)
    pixels = [compare_probes(member.probes, train, policy, member.url, gpu, mixing) for member in members]
    num_classes = _num_classes(options, train, store)
    if num_classes < 2:
        raise DataError(
            f"{train.classes.describe()}: a student needs two classes or more; name another dataset with --data"
        )
    space = Classes(names=train.class_names, count=num_classes, owner=f"{train.location}, {options.split}")
    train, val = relabel(train, space), _in_training_space(val, space) if val else None
    val_store = open_store(validation_options.val_store) if validation_options.val_store else None
    if val_store and val:
        val = _under_keys_of(val_store, val)
    remarks = [*train.remarks, *(val.remarks if val else ()), _other_teacher(teacher, members)]
    if teacher.online_teacher and teacher.stores:
        remarks.append(f"{' and '.join(teacher.stores)}: says which views are drawn; logits are the live teacher's")
    return TrainingData(
        train=train,
        val=val,
        store=store,
        policy=policy,
        mixing=mixing,
        num_views=count_views(options.views, views_per_image, policy, store),
        views_per_image=views_per_image,
        num_classes=num_classes,
        num_skipped=num_all - num_held_out - len(train),
        val_store=val_store,
        validation=validation,
        # Each once: images held out of others have the same notes.
        remarks=tuple(dict.fromkeys(filter(None, remarks))),
        gpu=gpu,
        pixel_warning="; ".join(filter(None, pixels)) or None,
    )


def _open_images(config: TrainConfig, store: StoreGroup | None, class_names: tuple[str, ...] | None) -> Source:
    """The training images, with labels unless there are none."""
    options, unlabelled = config.data, is_unlabelled(config, store)
    try:
        return open_source(options.images, options.split, class_names=class_names, unlabelled=unlabelled)
    except NoLabelsError as error:
        if store is None:
            raise
        raise DataError(f"{error.found}. {store.url} holds labelled images: give those") from error


def is_unlabelled(config: TrainConfig, store: StoreGroup | None) -> bool:
    """Whether a run's training images have no labels: the store says it, or without one the option.

    Raises:
        ConfigError: they have none, and a setting needs them or the store has them.
    """
    if store and not store.is_labelled:
        config.check_without_labels(store.url)
        return True
    if store and config.data.unlabelled:
        raise ConfigError(
            f"--unlabelled: {store.url} holds labelled images, and PLD ranks the label first; leave --unlabelled out "
            "and give the labelled images, or make a store without labels: cache-teacher --unlabelled"
        )
    return config.data.unlabelled


def _in_training_space(val: Source, space: Classes) -> Source:
    """The validation images with the training images' class numbers; a note says where only numbers are known."""
    note = None
    if val.class_names is None and space.names:
        note = (
            f"{val.location} states no class names: its labels are taken for the numbers of {space.owner}, "
            f"{shorten_list(space.names)}; a dataset.json with class_names beside it has them matched by name"
        )
    return relabel(val, space).with_notes(note)


def _under_keys_of(store: Store, val: Source) -> Source:
    """The validation images under the keys of a store of them.

    Raises:
        DataError: another label space.
        StoreError: it lacks images, has random views, or was made of other pixels.
    """
    found = join_validation(store, val, "--val_store")
    names = (found.class_names, val.class_names)
    if not np.array_equal(found.known_labels(), val.known_labels()) or (None not in names and names[0] != names[1]):
        advice = ADVICE.format(option="--val_store")
        raise DataError(f"{store.url}: numbers the classes otherwise than the training images; {advice}")
    return found


def _other_teacher(options: TeacherOptions, stores: Sequence[Store]) -> str | None:
    """What to say where a recipe names a teacher, and the stores are of others."""
    stated = stated_identity(options.name) if options.name else None
    if not stated or not stores:
        return None
    name, tag = stated
    teachers = [store.manifest.identity.teacher for store in stores]
    if any(teacher.name == name and tag in ("", teacher.tag) for teacher in teachers):
        return None
    held = " and ".join(teacher.full_name for teacher in teachers)
    return (
        f"the recipe names the teacher {name}{'.' if tag else ''}{tag}, but the store was made by {held}; the store's "
        "teacher is used"
    )


def _num_classes(options: DataOptions, source: Source, store: StoreGroup | None) -> int:
    known = {
        "the store's teacher": store.num_classes if store else None,
        "the dataset's class names": len(source.class_names) if source.class_names else None,
        "--num_classes": options.num_classes,
    }
    found = {where: number for where, number in known.items() if number is not None}
    if not found:
        raise ConfigError(f"{source.location}: does not say how many classes there are; give --num_classes")
    if len(set(found.values())) > 1:
        raise ConfigError(f"the number of classes: {', '.join(f'{where} {n}' for where, n in found.items())}")
    return next(iter(found.values()))
