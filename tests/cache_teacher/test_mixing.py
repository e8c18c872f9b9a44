"""Mixed views in stage one: the store holds what the teacher says of them, and stage two finds the same pairs."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cache_teacher.load_parts
import pld.images
from cache_teacher.cache import cache
from cache_teacher.cache import main as cache_main
from cache_teacher.pieces import put_side_by_side, split_part
from pld.config import run
from pld.errors import ConfigError, DataError, DifferentPixelsError, StoreError
from pld.images import open_source
from pld.join.match import join_source, stored_policy
from pld.join.mixing import plan_mixing
from pld.join.pixel_probes import compare_probes
from pld.join.recheck_teacher import rerun_teacher
from pld.join.validation_store import join_validation
from pld.signals import TopK
from pld.store import open_store
from pld.teachers import build_teacher
from pld.views import CutMix, MixingPlan, Mixup
from tests.cache_teacher.test_cache import arguments, config
from tests.loading.mixed import planned_view
from tests.making import jpeg, shard_members, write_tar
from tests.processes import tree_bytes

POLICY = "rand-m9-n2-mstd0.5,erase-0.25,mixup-0.8,cutmix-1.0"


def assert_is_live(world, store_path, source):
    """The store's logits are the teacher's of the views that its plan gives, and it can be seen that they are mixed."""
    store = open_store(str(store_path))
    source = join_source(store, source)
    policy, teacher = stored_policy(store), build_teacher(f"local-dir:{world / 'teacher'}")
    plan = plan_mixing(source, policy, [store])
    assert plan is not None
    rows = store.rows(source.keys)
    for index in range(store.num_views):
        cached = store.load_view(index)[rows]
        views = [planned_view(source, row, index, policy, plan, teacher.preprocessing) for row in range(len(source))]
        live = TopK.from_logits(teacher.logits(torch.stack(views)), torch.from_numpy(source.labels), 5)
        assert torch.equal(cached.labels, live.labels)
        assert (cached.label_logprob - live.label_logprob).abs().max() <= cached.logprob_error + 1e-4
        assert (cached.logprobs - live.logprobs).abs().max() <= cached.logprob_error + 1e-4
    return store, source, plan


@pytest.mark.parametrize("batch_size", [7, 64])
def test_a_store_holds_what_the_teacher_says_of_mixed_views(world, tmp_path, batch_size, monkeypatch):
    """In shard order, although partners were decoded side by side; each image about once a view."""
    read, original = [], pld.images.Source.read
    monkeypatch.setattr(pld.images.Source, "read", lambda self, row: read.append(row) or original(self, row))
    cache(config(world, tmp_path / "s", policy=POLICY, batch_size=batch_size))
    num_reads = len(read)
    source = open_source(str(world / "data"))
    store, _, plan = assert_is_live(world, tmp_path / "s", source)
    assert store.keys.tolist() == source.keys.tolist()
    assert all((plan.partners(view) != np.arange(71)).all() for view in range(3))
    # Where a piece ends between partners both are read twice; probes are read too.
    assert num_reads <= 3 * 71 * (1.4 if batch_size == 7 else 1.05) + 40


def test_images_of_one_class_a_shard_are_mixed_with_those_of_others(world, tmp_path):
    for shard in range(6):
        members = shard_members(10 * shard, 10)
        members |= {name: str(2 * shard + 1).encode() for name in members if name.endswith(".cls")}
        write_tar(tmp_path / "data" / f"train-{shard:04d}.tar", members)
    cache(config(world, tmp_path / "s", data=str(tmp_path / "data"), policy="mixup-0.8", views=2))
    store, source, plan = assert_is_live(world, tmp_path / "s", open_source(str(tmp_path / "data")))
    assert store.manifest.identity.views.policy["partners"] == "dataset"
    assert (source.labels[plan.partners(1)] != source.labels).mean() > 0.5
    given = '{"name": "random_resized_crop", "steps": [{"name": "mixup", "alpha": 0.8}], "partners": "shard"}'
    cache(config(world, tmp_path / "t", data=str(tmp_path / "data"), policy=given, views=1))
    assert open_store(str(tmp_path / "t")).manifest.identity.views.policy["partners"] == "shard"


def test_broken_images_are_mixed_into_nothing(world, tmp_path):
    """Stage two knows it from the keys that the store lists as skipped, also where three go round."""
    for number, size in enumerate((9, 12)):
        members = shard_members(20 * number, size)
        for bad in (2, 5):
            name = f"train-{20 * number + bad:04d}.jpg"
            members[name] = members[name][:300]
        write_tar(tmp_path / "data" / f"train-{number:04d}.tar", members)
    source = open_source(str(tmp_path / "data"))
    cache(config(world, tmp_path / "s", data=str(tmp_path / "data"), policy=POLICY, on_bad_image="skip", views=4))
    store, joined, plan = assert_is_live(world, tmp_path / "s", source)
    assert store.skipped == ("train-0002", "train-0005", "train-0022", "train-0025")
    alone = [int((plan.mixing(view, np.arange(17)).shares == 1).sum()) for view in range(4)]
    assert all(2 <= number <= 4 for number in alone), "the partners of four images, some of which have each other"
    assert compare_probes(store.probes, joined, stored_policy(store), "s", None, plan) is None


def test_going_on_and_processes_write_the_same(world, tmp_path, monkeypatch):
    cache(config(world, tmp_path / "threads", policy=POLICY, views=12, batch_size=30, threads=3))
    monkeypatch.setattr(cache_teacher.load_parts, "decoding_processes", lambda device, num: num)
    monkeypatch.setattr(cache_teacher.load_parts, "_VIEWS_AT_ONCE", 13)
    cache(config(world, tmp_path / "processes", policy=POLICY, views=12, batch_size=30, threads=2))
    part = sorted((tmp_path / "processes").glob("commits/*/train-0001.json"))[0]
    wanted = tree_bytes(tmp_path / "threads")
    assert {**tree_bytes(tmp_path / "processes"), "store.json": b""} == {**wanted, "store.json": b""}
    part.unlink()  # as if it had been killed before it committed this
    for seal in (tmp_path / "processes" / "seals").iterdir():
        seal.unlink()
    cache(config(world, tmp_path / "processes", policy=POLICY, views=12, batch_size=30, threads=2))
    assert {**tree_bytes(tmp_path / "processes"), "store.json": b""} == {**wanted, "store.json": b""}


def test_the_teacher_is_tried_again_on_mixed_views(world, tmp_path):
    cache(config(world, tmp_path / "s", policy=POLICY))
    store, teacher = open_store(str(tmp_path / "s")), build_teacher(f"local-dir:{world / 'teacher'}")
    source = open_source(str(world / "data"))
    agreement = rerun_teacher(store, source, teacher, 40)
    assert agreement.mean_l1 < 2 * agreement.rounding
    first = source.subset(np.arange(71) < 24)
    assert rerun_teacher(store, first, teacher, 20).mean_l1 < 2 * agreement.rounding
    with pytest.raises(DataError, match="lacks 4 images that its own are mixed with"):
        rerun_teacher(store, source.subset(np.arange(71) < 20), teacher, 20)


def test_probes_are_mixed_views(world, tmp_path):
    cache(config(world, tmp_path / "s", policy="mixup-0.8"))
    store, source = open_store(str(tmp_path / "s")), open_source(str(world / "data"))
    policy, plan = stored_policy(store), plan_mixing(source, stored_policy(store), [store])
    assert compare_probes(store.probes, source, policy, "s", None, plan) is None
    with pytest.raises(ConfigError, match="nothing says which images are mixed"):
        compare_probes(store.probes, source, policy, "s")
    plain = dataclasses.replace(policy, steps=())
    with pytest.raises(DifferentPixelsError):
        compare_probes(store.probes, source, plain, "s")


def test_no_validation_from_views_with_steps(world, tmp_path):
    cache(config(world, tmp_path / "s", split="val", policy="fixed,erase-0.9", views=2))
    store = open_store(str(tmp_path / "s"))
    assert store.num_views == 2, "each view is erased elsewhere"
    with pytest.raises(StoreError, match="its views have random_erasing, and validation only crops the centre"):
        join_validation(store, open_source(str(world / "data"), "val"), "--val_store")


def test_one_image_cannot_be_mixed(world, tmp_path, capsys):
    write_tar(tmp_path / "data" / "train-0000.tar", shard_members(11, 1))
    assert run(cache_main, arguments(world, tmp_path / "s", data=str(tmp_path / "data"), policy="mixup-0.8")) == 2
    assert "mixing wants two images or more, found 1" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@given(st.integers(1, 40), st.integers(0, 100), st.integers(0, 5), st.integers(1, 9))
def test_partners_come_side_by_side(num, first, view, piece_size):
    keys = np.array([f"k{i}".encode() for i in range(first + num + 3)])
    pools = np.repeat([0, 1, 2], [first, num, 3])
    plan, rows = MixingPlan(keys, pools, [Mixup(), CutMix()], seed=1), np.arange(first, first + num)
    partners = plan.partners(view)
    order = put_side_by_side(rows, partners)
    assert sorted(order.tolist()) == rows.tolist()
    pairs = order[: num - 3] if num % 2 else order
    assert (partners[pairs[0::2]] == pairs[1::2]).all()
    pieces = list(split_part(rows, [view, view + 1], batch_size=13, piece_size=piece_size, plan=plan))
    assert [piece.ends_part for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    for wanted in (view, view + 1):
        mine = [piece for piece in pieces if list(piece.view_indexes) == [wanted]]
        assert mine[-1].ends_batch
        assert sorted(np.concatenate([piece.rows for piece in mine]).tolist()) == rows.tolist()
        for piece in mine:
            assert piece.mixing.shares.shape == (len(piece.rows), 1)
            assert np.array_equal(piece.mixing.partners[:, 0], plan.partners(wanted)[piece.rows])


def test_an_image_that_breaks_while_it_is_cached_is_no_skipped_one(world, tmp_path, capsys, monkeypatch):
    """It was mixed into others in its first views; the store would say that it was not."""
    read, original = [], pld.images.Source.read

    def breaking(source, row):
        read.append(source.key(row))
        return original(source, row)[: 200 if read.count("train-0033") > 3 and read[-1] == "train-0033" else None]

    monkeypatch.setattr(pld.images.Source, "read", breaking)
    assert run(cache_main, arguments(world, tmp_path / "s", policy="mixup-0.8", views=6, on_bad_image="skip")) == 2
    assert "train-0033: can be decoded in some of its views alone; did it change?" in capsys.readouterr().err


def test_mixing_across_shards_and_leaving_images_out_exclude_each_other(world, tmp_path, capsys):
    """An image repaired before a cache goes on would change what other shards' images were mixed with."""
    for number in range(4):
        members = {f"s{number}{i}.{end}": data for i in range(4) for end, data in
                   (("jpg", jpeg(4 * number + i)), ("cls", str(11 - number).encode()))}  # fmt: skip
        write_tar(tmp_path / "data" / f"train-{number:04d}.tar", members)
    asked = {"data": str(tmp_path / "data"), "policy": "mixup-0.8"}
    assert run(cache_main, arguments(world, tmp_path / "s", **asked, on_bad_image="skip")) == 2
    assert "views are mixed across them" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
