"""A store of sampled tails: what is read, converted, verified, refused; in both formats."""

import dataclasses
import re

import numpy as np
import pytest
import torch
import xarray
import zarr

from pld.errors import ConfigError, CorruptStoreError, SignalError
from pld.losses import kd_loss
from pld.signals import with_tensors
from pld.store import open_store, open_stores
from pld.store.format.quantise import dequantise, quantise
from pld.store.maintain.convert import convert_store
from pld.store.maintain.verify import verify_store
from pld.store.objects.open import open_storage
from pld.store.write import writer as writing
from tests.store.world import World

FORMATS = ("zarr", "webdataset")
# As in format/test_part.py.
pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")


def problems(root):
    return [str(problem) for problem in verify_store(open_storage(root), lambda done, total: None)]


def stored_and_exact(root, world):
    """The second view of a store of two views, as read and as it was before rounding."""
    world.write(root, 2)
    held = open_store(root).load_view(1)[np.arange(sum(world.sizes))]
    exact = [world.signal(shard.name, 1) for shard in world.shards]
    return held, with_tensors(exact, lambda *tensors: torch.cat(tensors))


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("format", FORMATS)
def test_what_was_drawn_is_read(tmp_path, format, labelled):
    world = World(tail_samples=5, format=format, labelled=labelled)
    held, exact = stored_and_exact(tmp_path, world)
    grid, sample, drawn = world.identity.codec.grid, held.tail_sample, exact.tail_sample
    assert torch.equal(sample.classes, drawn.classes)
    assert sample.temperature == 4.0
    for name in ("logprobs", "threshold"):
        assert float((getattr(sample, name) - getattr(drawn, name)).abs().max()) <= 0.51 * grid
    held.validate(world.num_classes)
    assert problems(tmp_path) == []
    if format == "zarr":
        (part,) = tmp_path.glob("parts/*/train-0001-*.zip")
        opened = xarray.open_zarr(zarr.storage.ZipStore(part, mode="r"), consolidated=False)
        np.testing.assert_array_equal(opened.tail_classes[1], sample.classes[5:14])
        np.testing.assert_allclose(opened.tail_logprobs[1], sample.logprobs[5:14], rtol=1e-6)
        np.testing.assert_allclose(opened.tail_threshold[1], sample.threshold[5:14], rtol=1e-6)


def test_rounding_biases_the_estimate_by_no_more_than_it_moves_weights():
    """The mean over what is drawn, with the true probabilities of being drawn and the stored numbers.

    A class's weight moves by d / T. What it is divided by moves by 2 d / 4, 4 being the temperature of the
    draw, and weighs the distance from the even share.
    """
    world = World(sizes=(200,), tail_samples=15, num_classes=20, labelled=False)
    codec, shard = world.identity.codec, world.shards[0].name
    exact = world.signal(shard, 0)
    held = dequantise(quantise(exact, codec, 20), None, codec)
    for temperature in codec.temperatures:
        norm = (world.logits(shard, 0).double().log_softmax(1) / temperature).logsumexp(1)[:, None]
        true, rounded = ((topk.tail_sample.logprobs.double() / temperature - norm).exp() for topk in (exact, held))
        drawn_with, held_with = (topk.tail_sample.log_inclusion().double() for topk in (exact, held))
        ratio = (drawn_with - held_with).exp()
        even = (exact.tail_at(temperature).double() - norm[:, 0]).exp()[:, None] / 16
        bias = (even + ratio * (rounded - even) - true).abs()
        error = 0.51 * codec.grid
        bound = true * np.expm1(error / temperature) + (rounded - even).abs() * np.expm1(2 * error / 4.0)
        assert bool((bias <= bound + 1e-6).all())


@pytest.mark.parametrize("format", FORMATS)
def test_a_converted_store_holds_the_same(tmp_path, format):
    world = World(tail_samples=5, format=format)
    held, _ = stored_and_exact(tmp_path / "old", world)
    (other,) = set(FORMATS) - {format}
    convert_store(str(tmp_path / "old"), str(tmp_path / "new"), other, lambda views: None)
    new = open_store(tmp_path / "new").load_view(1)[np.arange(17)]
    for name in ("classes", "logprobs", "threshold"):
        assert torch.equal(getattr(held.tail_sample, name), getattr(new.tail_sample, name))


def test_kd_from_a_store_is_near_kd_from_what_was_drawn(tmp_path):
    world = World(tail_samples=8)
    world.write(tmp_path, 1)
    held, exact = open_store(tmp_path).load_view(0)[np.arange(5)], world.signal("train-0000", 0)
    student = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    assert kd_loss(student, held, held.labels).item() == pytest.approx(
        kd_loss(student, exact, exact.labels).item(), rel=0.02
    )


def test_a_smaller_k_and_several_teachers_have_no_sample(tmp_path):
    world = World(tail_samples=5)
    world.write(tmp_path / "a", 1)
    world.write(tmp_path / "b", 1)
    assert open_store(tmp_path / "a").load_view(0, k=3)[[0]].tail_sample is None
    for combine in ("average", "pick"):
        group = open_stores([str(tmp_path / "a"), str(tmp_path / "b")], combine)
        assert group.tail_samples == 0
        assert group.load_view(0)[group.rows(world.keys)].tail_samples == 0
    alone = open_stores([str(tmp_path / "a")])
    assert alone.tail_samples == alone.load_view(0)[[[0]]].tail_samples == 5


def test_other_samples_than_the_identity_says_are_refused(tmp_path):
    world = World(tail_samples=5)
    writer = world.open_writer(tmp_path)
    (part, *_) = writer.missing_parts(1)
    for num in (0, 4):
        signal = dataclasses.replace(world, tail_samples=num).signal(part.shard, 0)
        rows = world.rows(part.shard)
        with pytest.raises(SignalError, match=r"\(num, temperature\) = .*, wanted \(5, 4.0\)"):
            writer.write_part(part, world.keys[rows], world.labels[rows], [signal])
    with pytest.raises(ConfigError, match="tail_samples = 16: wanted 1 to 15"):
        _ = World(tail_samples=16).identity


def test_a_store_without_samples_has_the_identity_that_it_had():
    assert "tail_samples" not in World().identity.to_json()["codec"]
    assert World(tail_samples=5).identity.fingerprint != World().identity.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tail_classes": lambda c: c + 30}, "tail_classes: found class .*, wanted 0..19"),
        ({"tail_threshold": lambda t: t + 10**6}, "tail_threshold: row .* has a class that could not have been drawn"),
        ({"tail_depths": lambda d: d * 0 + 65535}, "tail_threshold: row .* has a class that could not have been drawn"),
        ({"tail_classes": lambda c: c[:, ::-1]}, "tail classes that do not ascend"),
        ({"tail_depths": lambda d: d * 0}, "a tail class more probable than the last of the top k"),
    ],
)
def test_a_strangers_numbers(tmp_path, change, message, monkeypatch):
    """Written with true digests, as who wants to harm would."""

    def harmful(*given):
        grid = quantise(*given)
        return grid._replace(
            **{name: of(getattr(grid, name)).astype(getattr(grid, name).dtype) for name, of in change.items()}
        )

    monkeypatch.setattr(writing, "quantise", harmful)
    World(tail_samples=5).write(tmp_path, 1)
    assert re.search(message, "\n".join(problems(tmp_path)))
    if "row" in message or "0..19" in message:
        with pytest.raises(CorruptStoreError, match=message):
            open_store(tmp_path).load_view(0)
