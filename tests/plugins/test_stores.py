"""A store of plug-ins' images, views and teacher: what its identity says, and what is said where they are missing."""

import dataclasses

import numpy as np
import pytest
import torch

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from pld.errors import ConfigError
from pld.images import open_source
from pld.join.match import join_source, stored_policy
from pld.loading import ViewRequest, loading, view_decoder
from pld.losses import build_loss
from pld.losses.registry import LOSSES
from pld.plugins import OURS
from pld.store import open_store
from pld.views import RandomResizedCrop, parse_policy
from pld.views.policy import STEPS
from pld.views.preprocessing import Preprocessing

SETTINGS = {"teacher": "mean_colour:10", "data": "colours:24", "policy": "rrc,mosaic-8", "views": 2, "k": 2}


@pytest.fixture
def store(example, tmp_path):
    cache(CacheConfig(**SETTINGS, store=str(tmp_path / "store"), threads=1))
    return open_store(tmp_path / "store")


def test_the_identity_has_the_step_and_the_teachers_code(store):
    identity = store.manifest.identity
    assert identity.views.policy["steps"] == [{"name": "mosaic", "largest": 8}]
    assert (identity.teacher.name, identity.teacher.tag) == ("mean_colour:10", "")
    assert identity.teacher.code_sha256
    assert store.manifest.provenance["plugins"]["mosaic"] == "pld-example 1.0"
    other = dataclasses.replace(identity.teacher, code_sha256="0" * 64)
    assert dataclasses.replace(identity, teacher=other).fingerprint != identity.fingerprint


def test_a_store_whose_step_is_not_installed_says_so(store, tmp_path):
    source = open_source("colours:24")
    del STEPS["mosaic"]
    with pytest.raises(
        ConfigError, match=r"store: view step: .*'mosaic' is a plug-in's, install.*with pld-example 1\.0"
    ):
        stored_policy(store)
    assert len(join_source(store, source)) == 24  # which needs no step


def test_a_loss_takes_the_stores_signal_and_a_dense_teacher(store):
    table, labels = store.load_view(1), torch.from_numpy(np.arange(24) % 3)
    hinge = build_loss("hinge", margin=0.5)
    assert hinge.required_signal.temperatures == (1.0,)
    student = torch.randn(24, 3, requires_grad=True)
    hinge(student, table[range(24)], labels).backward()
    assert student.grad.abs().sum() > 0
    assert hinge(student, torch.randn(24, 3), labels) > 0
    with pytest.raises(ConfigError, match="hinge_loss: margin = -1, wanted a number above 0"):
        build_loss("hinge", margin=-1)
    assert LOSSES.owner("hinge") != OURS


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
def test_loader_processes_know_the_step(example, context):
    """Those that are forked have it; those that are spawned find it again."""
    policy = parse_policy("rrc,mosaic-8", RandomResizedCrop())
    decoder = view_decoder(open_source("colours:6"), policy, [Preprocessing(input_size=(32, 32))])
    request = ViewRequest(np.arange(6), [0, 1, 2])
    found = []
    for processes in (0, 1):
        with loading(decoder, [request], processes=processes, context=context if processes else None) as loaded:
            found += [views.images[0].clone() for views in loaded]
    assert torch.equal(*found)
