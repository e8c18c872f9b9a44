"""A store whose rows list as many classes as an error asks for: read, narrowed, converted, combined, refused."""

import dataclasses
import re

import numpy as np
import pytest
import torch
import webdataset
import xarray
import zarr

from pld.errors import ConfigError, CorruptStoreError, SignalError
from pld.losses import gradient_error_bound, pld_loss
from pld.signals import TopK
from pld.store import CodecIdentity, grid_for, open_store, open_stores
from pld.store.format.quantise import quantise
from pld.store.format.stats import PartStats
from pld.store.maintain.convert import convert_store
from pld.store.maintain.verify import verify_store
from pld.store.objects.open import open_storage
from pld.store.write import writer as writing
from tests.store.world import World, tree

FORMATS = ("zarr", "webdataset")
ERROR = 0.3
# As in format/test_part.py.
pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")


def problems(root):
    return [str(problem) for problem in verify_store(open_storage(root), lambda done, total: None)]


def world(**settings):
    return World(**{"k": 10, "error": ERROR, **settings})


def held_of(root, view=1, k=None):
    store = open_store(root)
    return store.load_view(view, k)[np.arange(store.num_samples)]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("tail_samples", [0, 3])
@pytest.mark.parametrize("format", FORMATS)
def test_what_was_kept_is_read_and_keeps_the_error(tmp_path, format, tail_samples, labelled):
    made = world(format=format, labelled=labelled, tail_samples=tail_samples)
    made.write(tmp_path, 2)
    held, exact = held_of(tmp_path), [made.signal(shard.name, 1) for shard in made.shards]
    for name in ("classes", "counts"):
        assert torch.equal(getattr(held, name), torch.cat([getattr(topk, name) for topk in exact]))
    assert len(set(held.counts.tolist())) > 3
    held.validate(made.num_classes)
    assert problems(tmp_path) == []
    over = gradient_error_bound(held) > ERROR
    assert bool((held.counts[over] == made.k).all())
    stats = open_store(tmp_path).stats
    both = [held_of(tmp_path, view) for view in range(2)]
    assert stats.num_listed == sum(int(topk.counts.sum()) for topk in both)
    assert stats.most_listed == max(int(topk.counts.max()) for topk in both)
    assert stats.num_over_error == sum(int((gradient_error_bound(topk) > ERROR).sum()) for topk in both)


def test_rounding_takes_no_row_over_the_error():
    made = world(sizes=(4000,), k=20, error=0.05)
    codec, shard = made.identity.codec, made.shards[0].name
    grid = quantise(made.signal(shard, 0), codec, 20)
    held = writing.dequantise(grid, made.labels, codec)
    assert float(gradient_error_bound(held).max()) <= 0.05


def test_an_error_of_which_most_of_the_mass_may_be_outside():
    """Above 1, what rounding adds to the sum of all masses decides on rows: the bound has it divided out."""
    made = world(sizes=(20_000,), k=2, error=1.5)
    codec = made.identity.codec
    held = writing.dequantise(quantise(made.signal(made.shards[0].name, 0), codec, 20), made.labels, codec)
    assert PartStats.of([held], 20, error=1.5).num_over_error == int((gradient_error_bound(held) > 1.5).sum())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves the part open
def test_xarray_and_plain_webdataset_open_it(tmp_path):
    for format in FORMATS:
        world(format=format).write(tmp_path / format, 2)
    held = held_of(tmp_path / "zarr")
    (part,) = (tmp_path / "zarr").glob("parts/*/train-0001-*.zip")
    opened = xarray.open_zarr(zarr.storage.ZipStore(part, mode="r"), consolidated=False)
    listed = np.arange(10) < opened.counts.values[1][:, None]
    np.testing.assert_array_equal(opened.classes[1], held.classes[5:14])
    np.testing.assert_allclose(opened.logprobs[1].values[listed], held.logprobs[5:14][listed], rtol=1e-6)
    (part,) = (tmp_path / "webdataset").glob("parts/*/train-0001-*.tar")
    members = webdataset.WebDataset(str(part), shardshuffle=False).decode()
    view = {member["__key__"]: member.get("npz", member.get("json")) for member in members}["v001"]
    np.testing.assert_array_equal(view["counts"], held.counts[5:14])


@pytest.mark.parametrize("format", FORMATS)
def test_a_converted_store_holds_the_same_and_back_the_same_bytes(tmp_path, format):
    world(format=format).write(tmp_path / "old", 2)
    (other,) = set(FORMATS) - {format}
    convert_store(str(tmp_path / "old"), str(tmp_path / "new"), other, lambda views: None)
    convert_store(str(tmp_path / "new"), str(tmp_path / "back"), format, lambda views: None)
    held, new = held_of(tmp_path / "old"), held_of(tmp_path / "new")
    for name in ("classes", "logprobs", "counts", "tail_logmass"):
        assert torch.equal(getattr(held, name), getattr(new, name))
    assert tree(tmp_path / "old") == tree(tmp_path / "back")


def test_a_smaller_k_cuts_the_rows_that_list_more(tmp_path):
    world().write(tmp_path / "ragged", 2)
    held, cut = held_of(tmp_path / "ragged"), held_of(tmp_path / "ragged", k=3)
    assert torch.equal(cut.counts, held.counts.clamp(max=3))
    cut.validate(20)
    short = held.counts <= 3
    torch.testing.assert_close(cut.tail_logmass[short], held.tail_logmass[short])
    World(k=3).write(tmp_path / "fixed", 2)
    fixed, long = held_of(tmp_path / "fixed"), held.counts >= 3
    assert torch.equal(cut.classes[long], fixed.classes[long])
    torch.testing.assert_close(cut.tail_logmass[long], fixed.tail_logmass[long], atol=0.1, rtol=0)


@pytest.mark.parametrize("combine", ["average", "pick"])
@pytest.mark.parametrize("other", [{}, {"error": None, "k": 6}])
def test_several_stores_together(tmp_path, combine, other):
    made = world()
    made.write(tmp_path / "a", 2)
    dataclasses.replace(made, seed=0, **other).write(tmp_path / "b", 2)
    group = open_stores([str(tmp_path / "a"), str(tmp_path / "b")], combine)
    topk = group.load_view(1)[group.rows(made.keys)]
    topk.validate(20)
    assert topk.k == group.k
    assert group.error == ERROR
    assert not group.holds_all
    student = torch.zeros(17, 20)
    assert torch.isfinite(pld_loss(student, topk, topk.labels))
    if not other:  # the same teacher twice
        held = held_of(tmp_path / "a")
        assert torch.equal(topk.counts, held.counts.maximum(topk.counts))
        torch.testing.assert_close(
            pld_loss(student, topk, topk.labels, reduction="none"),
            pld_loss(student, held, held.labels, reduction="none"),
            atol=1e-4,
            rtol=1e-4,
        )


def test_other_signals_than_the_identity_says_are_refused(tmp_path):
    for kept, given in ((ERROR, None), (None, ERROR)):
        made = world(error=kept)
        writer = made.open_writer(tmp_path / str(kept))
        (part, *_) = writer.missing_parts(1)
        rows, signal = made.rows(part.shard), world(error=given).signal(part.shard, 0)
        with pytest.raises(SignalError, match=r"found .*counts, wanted .*: build the signal with TopK.from_logits"):
            writer.write_part(part, made.keys[rows], made.labels[rows], [signal])


@pytest.mark.parametrize(("error", "steps"), [(None, 3), (1.0, 3), (0.1, 3), (0.095, 2), (0.05, 1), (0.004, 1)])
def test_the_grid_of_an_error(error, steps):
    """Rounding costs 0.0120, 0.0080 or 0.0040: at most an eighth, where a grid is fine enough for that."""
    assert grid_for(error) == steps / 256
    assert CodecIdentity(k=5, grid=grid_for(error), error=error).grid == steps / 256


def test_errors_that_no_store_can_keep():
    for error in (0.0, 0.0119, 2.0, -1.0):
        with pytest.raises(ConfigError, match="which rounding to the store's grid costs alone"):
            CodecIdentity(k=5, error=error)
    with pytest.raises(ConfigError, match=r"more than 0.003984, which rounding to the store's grid costs alone"):
        CodecIdentity(k=5, grid=grid_for(0.003), error=0.003)
    assert "error" not in World().identity.to_json()["codec"]
    assert world().identity.fingerprint != world(error=None).identity.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": lambda c: c * 0}, "counts: row 0 lists 0 classes, wanted 1..10"),
        ({"counts": lambda c: c * 0 + 11}, "counts: row 0 lists 11 classes, wanted 1..10"),
        ({"counts": lambda c: np.maximum(c, 2) - 1}, "other padding than its first class and last depth"),
        ({"classes": lambda c: np.concatenate([c[:, :-1], (c[:, :1] + 1) % 20], 1)}, "other padding than its first"),
        ({"depths": lambda d: np.concatenate([d[:, :-1], d[:, -1:] + 1], 1)}, "other padding than its first class"),
    ],
)
@pytest.mark.parametrize("format", FORMATS)
def test_a_strangers_numbers(tmp_path, format, change, message, monkeypatch):
    """Written with true digests, as who wants to harm would."""

    def harmful(*given):
        grid = quantise(*given)
        return grid._replace(
            **{name: of(getattr(grid, name)).astype(getattr(grid, name).dtype) for name, of in change.items()}
        )

    monkeypatch.setattr(writing, "quantise", harmful)
    monkeypatch.setattr(writing, "dequantise", lambda *given: World(k=10).no_signal())
    world(format=format, error=1.0).write(tmp_path, 1)
    assert re.search(message, "\n".join(problems(tmp_path)))
    with pytest.raises(CorruptStoreError, match=message):
        open_store(tmp_path).load_view(0)


def test_no_rows(tmp_path):
    world(sizes=(4, 2)).write_with_an_empty_part(tmp_path)
    assert held_of(tmp_path, 0).counts.shape == (4,)
    assert TopK.from_logits(torch.zeros(0, 5), None, 2, error=0.1).counts.shape == (0,)
