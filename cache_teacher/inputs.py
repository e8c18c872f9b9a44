"""Open what a store is made from: the images, the teacher and the views, without writing anything."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping

import torch

from cache_teacher.config import CacheConfig, choose_policy, limit_views
from cache_teacher.forward import PartRunner
from cache_teacher.identity import codec, store_identity
from cache_teacher.label_check import LabelCheck
from pld.classes.names import read_class_map, read_class_names
from pld.errors import ConfigError, DataError, SignalError
from pld.images import Source, open_source
from pld.join.match import map_classes, use_store_keys, use_teacher_classes
from pld.join.mixing import plan_mixing
from pld.loading import ViewDecoder, view_decoder
from pld.loading.nvjpeg import check_device
from pld.signals import check_tail_samples
from pld.store import Identity, Shard, find_manifest
from pld.teachers import Teacher, build_teacher
from pld.views import MixingPlan, Policy

_LOG = logging.getLogger(__name__)

_UNCHECKED = "images without labels: nothing checks that the teacher's classes and pixels are right for them"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What a store is made from.

    Attributes:
        source: the images, under the keys of the store where there is one.
        teacher: built on `device`, for the images' classes.
        policy: how views are drawn.
        plan: which images are mixed with which, if the policy mixes them.
        num_views: how many of each image are wanted.
        device: the teacher's.
        gpu: where nvJPEG decodes, if it does.
        notes: what the user should know.
    """

    source: Source
    teacher: Teacher
    policy: Policy
    plan: MixingPlan | None
    num_views: int
    device: str
    gpu: torch.device | None
    notes: tuple[str, ...]

    @property
    def shards(self) -> list[Shard]:
        """The images' shards, as a store has them."""
        return [Shard(name=shard.name, num_samples=shard.num_samples) for shard in self.source.shards]

    def identity(self, config: CacheConfig) -> Identity:
        """Everything that the store's numbers depend on."""
        return store_identity(config, self.source, self.teacher, self.policy)

    def decoder(self, config: CacheConfig) -> ViewDecoder:
        """What makes the teacher's views."""
        skip = config.on_bad_image == "skip"
        return view_decoder(self.source, self.policy, [self.teacher.preprocessing], gpu=self.gpu, skip_bad_images=skip)

    def runner(self, config: CacheConfig) -> PartRunner:
        """What runs the teacher over views."""
        return PartRunner(
            teacher=self.teacher,
            source=self.source,
            k=config.k,
            temperatures=config.temperatures,
            tail_samples=config.tail_samples,
            error=config.error,
            logprob_error=codec(config).logprob_error,
            view_seed=self.policy.seed,
            device=self.device,
            label_check=_label_check(config, self.source, self.teacher),
        )


def open_inputs(config: CacheConfig) -> Inputs:
    """Open images and teacher as configured.

    Raises:
        PLDError: something that the user can fix.
    """
    device = config.device or _default_device()
    class_names, class_map = read_class_names(config.class_names), read_class_map(config.class_map)
    source = open_source(config.data, config.split, class_names=class_names, unlabelled=config.unlabelled)
    source = use_store_keys(find_manifest(config.store_path), source)
    gpu = _decoding_gpu(config, device)
    teacher, source, class_note = _build_teacher(config, source, class_map, device)
    policy = choose_policy(config, source, teacher)
    num_views, view_note = limit_views(policy, config.views)
    unchecked = None if source.labels is not None else _UNCHECKED
    if config.compile:
        # A part's last batch is smaller: one set of kernels per batch size is faster than kernels for any size.
        teacher.model.compile(dynamic=False)
    return Inputs(
        source=source,
        teacher=teacher,
        policy=policy,
        plan=plan_mixing(source, policy),
        num_views=num_views,
        device=device,
        gpu=gpu,
        notes=tuple(filter(None, (*source.remarks, *teacher.notes, class_note, view_note, unchecked))),
    )


def _build_teacher(
    config: CacheConfig, source: Source, class_map: Mapping[str, str], device: str
) -> tuple[Teacher, Source, str | None]:
    """Build the teacher for the dataset's classes; the note says what had to be assumed about them.

    Images without labels have all classes of the teacher, unless some are named.
    """
    teacher = build_teacher(config.teacher, config.weights, precision=config.precision, device=device)
    note = None
    if source.labels is None and source.class_names is None:
        source = use_teacher_classes(teacher, source)
    else:
        teacher, note = map_classes(teacher, source.classes, class_map)
    if teacher.num_outputs < 2:
        raise DataError(
            f"{source.classes.describe()}: a ranking needs two classes or more; name another dataset with --data"
        )
    if config.k > teacher.num_outputs:
        raise ConfigError(
            f"--k {config.k}: {teacher.architecture} has {teacher.num_outputs} classes here; choose at most as many"
        )
    if config.tail_samples:
        labelled = source.labels is not None
        try:
            check_tail_samples(config.tail_samples, config.k, teacher.num_outputs, labelled=labelled)
        except SignalError as error:
            raise ConfigError(f"--{error}") from None
    return teacher, source, note


def _decoding_gpu(config: CacheConfig, device: str) -> torch.device | None:
    """The GPU on which nvJPEG decodes, if any; raises ConfigError if it cannot."""
    if config.decoder == "cpu":
        return None
    gpu = torch.device(device)
    check_device(gpu)
    return gpu


def _label_check(config: CacheConfig, source: Source, teacher: Teacher) -> LabelCheck | None:
    """The check of the labels; None if they may be wrong, or there are none."""
    if config.allow_wrong_labels or source.labels is None:
        return None
    names = source.class_names
    return LabelCheck(
        num_classes=teacher.num_outputs,
        class_name=lambda label: names[label] if names else str(label),
        advice="Give the names of the data's classes (--class_names FILE) and which of the teacher's classes each is "
        f"(--class_map FILE), and name another --store or remove {config.store_path}; or go on with "
        "--allow_wrong_labels",
        warn=warn,
    )


def warn(*notes: str | None) -> None:
    """Log the notes that there are as warnings."""
    for note in filter(None, notes):
        _LOG.warning("%s", note)


def _default_device() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
