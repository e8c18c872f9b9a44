"""What is not a shard's samples, or not the signal that the store promises, is refused before it is written."""

import dataclasses

import jaxtyping
import numpy as np
import pytest
import torch

from pld.errors import DataError, SignalError
from tests.store.world import World, tree


def _write(world, tmp_path, *, keys=None, labels=None, views=None, skipped=()):
    writer = world.open_writer(tmp_path)
    part = writer.missing_parts(1)[0]
    rows = world.rows(part.shard)
    writer.write_part(
        part,
        world.keys[rows] if keys is None else keys,
        world.labels[rows] if labels is None else labels,
        [world.signal(part.shard, 0)] if views is None else views,
        skipped,
    )


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        ({"keys": list("abcda")}, "'a' comes twice"),
        ({"keys": list("abcd")}, "4 keys and 5 labels"),
        ({"keys": ["a", "b", "c", "d", ""]}, "empty"),
        ({"keys": ["a", "b", "c", "d", "e\n"]}, "control characters"),
        ({"keys": ["a", "b", "c", "d", "e\0"]}, "control characters"),
        ({"keys": ["a", "b", "c", "d", "e" * 5000]}, "too long"),
        ({"keys": ["a", "b", "c", "d", "\udcff"]}, "not UTF-8"),
        ({"keys": np.array([b"a", b"b", b"c", b"d", b"\xff"])}, "not UTF-8"),
        ({"skipped": ["z"]}, "5 samples and 1 skipped, wanted 5"),
        ({"labels": np.array([0, 1, 2, 3, 20])}, "labels 0..20, wanted 0..19"),
    ],
)
def test_samples_that_are_not_the_shards_are_refused(tmp_path, samples, complaint):
    with pytest.raises(DataError, match=complaint):
        _write(World(), tmp_path, **samples)
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: dataclasses.replace(t, classes=t.classes + 17), "classes outside"),
        (lambda t: dataclasses.replace(t, classes=t.classes * 0), "class twice"),
        (lambda t: dataclasses.replace(t, logprobs=t.logprobs.flip(1)), "rise with the rank"),
        *(
            (lambda t, n=name, b=bad: dataclasses.replace(t, **{n: getattr(t, n) * 0 + b}), "not finite|are nan or")
            for name in ("logprobs", "label_logprob", "tail_logmass")
            for bad in (torch.nan, torch.inf)
        ),
        (lambda t: dataclasses.replace(t, logprobs=t.logprobs - torch.inf), "not finite"),
        (lambda t: dataclasses.replace(t, logprob_error=torch.nan), "logprob_error: found nan"),
        (
            lambda t: dataclasses.replace(t, logprobs=t.logprobs - 1, label_logprob=t.label_logprob - 1),
            "do not sum to 1",
        ),
        (
            lambda t: dataclasses.replace(t, tail_logmass=t.tail_logmass.index_fill(1, torch.tensor(4), 9.0)),
            "more mass",
        ),
        (lambda t: dataclasses.replace(t, label_logprob=t.label_logprob - 1), "not that of its entry"),
        (lambda t: dataclasses.replace(t, labels=(t.labels + 1) % 20), "other labels"),
        (lambda t: dataclasses.replace(t, temperatures=(1.0, 2.0, 3.0, 4.0, 5.0)), "temperatures"),
        (
            lambda t: dataclasses.replace(t, classes=t.classes[:, :3], logprobs=t.logprobs[:, :3]),
            "found .*3",
        ),
    ],
)
def test_a_signal_that_is_not_what_the_store_promises_is_refused(tmp_path, change, complaint):
    world = World()
    with pytest.raises(SignalError, match=complaint):
        _write(world, tmp_path, views=[change(world.signal("train-0000", 0))])
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tail_logmass", lambda tensor: tensor[:1]),
        ("tail_logmass", lambda tensor: tensor[:, :2]),
        ("label_logprob", lambda tensor: tensor[:, None]),
        ("label_logprob", lambda tensor: tensor[:2]),
        ("logprobs", lambda tensor: tensor[:2]),
        ("classes", lambda tensor: tensor.double()),
        ("classes", lambda tensor: tensor[:, 0]),
    ],
)
def test_tensors_that_do_not_fit_each_other_are_named(tmp_path, monkeypatch, name, change):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is outside of tests
    world = World()
    signal = world.signal("train-0000", 0)
    with pytest.raises(SignalError, match=r"view 0: TopK\.\w+: found .*wanted"):
        _write(world, tmp_path, views=[dataclasses.replace(signal, **{name: change(getattr(signal, name))})])
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize("finite", [True, False])
def test_dense_logits_are_no_signal(tmp_path, monkeypatch, finite):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is outside of tests
    world = World()
    logits = world.logits("train-0000", 0) * (1 if finite else torch.nan)
    with pytest.raises(SignalError, match=r"view 0: found a Tensor, wanted a TopK; TopK.from_logits\(.*k=4"):
        _write(world, tmp_path, views=[logits])
    assert not (tmp_path / "parts").exists()


def test_logits_that_are_being_trained_are_written_as_they_are(tmp_path):
    world = World()
    signal = world.signal("train-0000", 0)
    trained = dataclasses.replace(signal, logprobs=signal.logprobs.clone().requires_grad_())
    _write(world, tmp_path / "a", views=[signal])
    _write(world, tmp_path / "b", views=[trained])
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize("views", [1.5, "2", None])
def test_a_number_of_views_that_is_none_is_refused(tmp_path, views):
    writer = World().open_writer(tmp_path)
    with pytest.raises(Exception, match=str(views)):
        writer.missing_parts(views)
    assert not (tmp_path / "blocks").exists()
