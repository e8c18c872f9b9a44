"""A store's identity: the teacher, the views, the dataset and the codec that its numbers depend on."""

from __future__ import annotations

from cache_teacher.config import CacheConfig
from pld.images import Source
from pld.store import (
    ClassMap,
    CodecIdentity,
    DatasetIdentity,
    Identity,
    TeacherIdentity,
    ViewIdentity,
    dataset_digest,
    grid_for,
)
from pld.teachers import Teacher
from pld.views import DRAWING_VERSION, Policy, policy_to_json


def store_identity(config: CacheConfig, source: Source, teacher: Teacher, policy: Policy) -> Identity:
    """Everything that the store's numbers depend on."""
    described = policy_to_json(policy)
    return Identity(
        teacher=TeacherIdentity(
            name=teacher.architecture,
            tag=teacher.tag,
            weights_sha256=teacher.weights_sha256,
            num_classes=teacher.num_outputs,
            input_size=teacher.preprocessing.input_size,
            mean=teacher.preprocessing.mean,
            std=teacher.preprocessing.std,
            interpolation=teacher.preprocessing.interpolation,
            precision=teacher.precision,
            class_map=ClassMap(model_classes=teacher.num_classes, columns=teacher.columns) if teacher.columns else None,
            code_sha256=teacher.code_sha256,
        ),
        views=ViewIdentity(
            policy=described, seed=described.pop("seed"), drawing_version=DRAWING_VERSION, decoder=config.decoder
        ),
        dataset=DatasetIdentity(
            digest=dataset_digest(source.keys, source.labels),
            num_samples=len(source),
            class_names=source.class_names,
            labelled=source.labels is not None,
        ),
        codec=codec(config),
    )


def codec(config: CacheConfig) -> CodecIdentity:
    """What is kept of the logits."""
    return CodecIdentity(
        k=config.k,
        grid=grid_for(config.error),
        temperatures=config.temperatures,
        tail_samples=config.tail_samples,
        error=config.error,
    )
