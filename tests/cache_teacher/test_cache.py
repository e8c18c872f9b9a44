"""Stage one in this process: what it writes, and what it refuses."""

import json
import re

import numpy as np
import pytest
import torch

import pld.images
from cache_teacher.__main__ import main
from cache_teacher.cache import cache
from cache_teacher.cache import main as cache_main
from cache_teacher.config import CacheConfig
from pld.config import run
from pld.images import open_source
from pld.images.dataset import read_image
from pld.signals import TopK
from pld.store import open_store
from pld.teachers import build_teacher
from pld.views import Fixed, RandomResizedCrop, apply_view, draw_view
from tests.making import NUM_CLASSES, jpeg, make_dataset, make_teacher, shard_members, write_tar
from tests.processes import tree_bytes
from tests.train_student.runs import as_arguments


def settings_of(world, store, **settings):
    base = {"teacher": f"local-dir:{world / 'teacher'}", "data": str(world / "data"), "views": 3, "k": 5, "threads": 1}
    base["allow_wrong_labels"] = True  # of a teacher that was never trained
    return {**base, "store": str(store), **settings}


def config(world, store, **settings):
    return CacheConfig(**settings_of(world, store, **settings))


def arguments(world, store, **settings):
    return as_arguments(settings_of(world, store, **settings))


def test_a_store_holds_what_the_teacher_says_of_each_view(world, tmp_path, capsys):
    cache(config(world, tmp_path / "s", batch_size=7))
    store = open_store(str(tmp_path / "s"))
    source = open_source(str(world / "data"))
    teacher = build_teacher(f"local-dir:{world / 'teacher'}")
    assert (store.num_views, store.num_samples) == (3, len(source))
    rows = store.rows(source.keys)
    for index in range(3):
        images = []
        for row in range(len(source)):
            image = read_image(source, row)
            view = draw_view(source.key(row), index, tuple(image.shape[1:]), RandomResizedCrop())
            images.append(apply_view(image, view, teacher.preprocessing.input_size))
        live = TopK.from_logits(teacher.logits(torch.stack(images)), torch.from_numpy(source.labels), 5)
        cached = store.load_view(index)[rows]
        assert torch.equal(cached.classes, live.classes)
        assert torch.equal(cached.labels, live.labels)
        assert (cached.logprobs - live.logprobs).abs().max() <= cached.logprob_error + 1e-4
    printed = " ".join(capsys.readouterr().out.split())
    correct = store.stats.accuracy
    for fact in ("complete", "samples 71", "views 3, top 5 of 12", f"{100 * correct:.2f} %", "per view"):
        assert fact in printed


def test_going_on_adds_views_and_touches_nothing(world, tmp_path):
    cache(config(world, tmp_path / "s", views=2))
    before = tree_bytes(tmp_path / "s")
    cache(config(world, tmp_path / "s", views=2))
    assert tree_bytes(tmp_path / "s") == before
    cache(config(world, tmp_path / "s", views=5))
    after = tree_bytes(tmp_path / "s")
    assert {name: after[name] for name in before} == before
    assert open_store(str(tmp_path / "s")).num_views == 5


def test_an_image_that_cannot_be_read_is_not_skipped(world, tmp_path, capsys, monkeypatch):
    """A disk that fails is no reason to leave images out of a store."""
    tar = write_tar(tmp_path / "data" / "train-0000.tar", shard_members(0, 24))
    opened = pld.images.Source.read

    def cut_after_opening(source, row):
        with tar.open("r+b") as file:
            file.truncate(2000)
        return opened(source, row)

    monkeypatch.setattr(pld.images.Source, "read", cut_after_opening)
    argv = arguments(world, tmp_path / "s", data=str(tmp_path / "data"), on_bad_image="skip")
    assert run(cache_main, argv) == 2
    assert "the file changed since it was indexed" in capsys.readouterr().err


def test_policies(world, tmp_path):
    cache(config(world, tmp_path / "fixed", policy="fixed", views=1))
    views = open_store(str(tmp_path / "fixed")).manifest.identity.views
    assert dict(views.policy) == {"name": "fixed", "crop_fraction": 0.875}
    given = json.dumps({"name": "random_resized_crop", "scale": [0.5, 1.0], "flip": False})
    cache(config(world, tmp_path / "given", policy=given, views=1, view_seed=9))
    views = open_store(str(tmp_path / "given")).manifest.identity.views
    assert (views.policy["scale"], views.policy["flip"], views.seed) == ((0.5, 1.0), False, 9) or (
        list(views.policy["scale"]) == [0.5, 1.0] and not views.policy["flip"] and views.seed == 9
    )


def test_a_webdataset_store_holds_the_same_and_is_not_gone_on_with_in_zarr(world, tmp_path, capsys):
    for name in ("zarr", "webdataset"):
        cache(config(world, tmp_path / name, format=name, k=NUM_CLASSES))
    zarr, webdataset = (open_store(str(tmp_path / name)) for name in ("zarr", "webdataset"))
    assert zarr.manifest.identity.fingerprint == webdataset.manifest.identity.fingerprint
    assert torch.equal(zarr.load_view(2)[np.arange(71)].logprobs, webdataset.load_view(2)[np.arange(71)].logprobs)
    assert run(cache_main, arguments(world, tmp_path / "webdataset", k=NUM_CLASSES)) == 2
    assert "format: the store has 'webdataset', this run wants 'zarr'" in capsys.readouterr().err


def test_a_val_store_is_one_fixed_view(world, tmp_path):
    cache(config(world, tmp_path / "val", split="val", policy="fixed", views=1, k=NUM_CLASSES))
    store = open_store(str(tmp_path / "val"))
    assert (store.num_samples, store.num_views) == (13, 1)
    assert Fixed(crop_fraction=0.875).crop_fraction == store.manifest.identity.views.policy["crop_fraction"]


def test_a_store_is_named_after_what_is_in_it(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache(CacheConfig(**settings_of(world, "", views=1, k=3)))
    assert (tmp_path / "stores" / "data-teacher-train" / "store.json").is_file()


def test_bad_images_are_named_or_skipped_and_counted(world, tmp_path, capsys):
    members = {**shard_members(0, 6), "broken.jpg": jpeg(3)[:200], "broken.cls": b"2"}
    write_tar(tmp_path / "data" / "train-0000.tar", members)
    write_tar(tmp_path / "data" / "train-0001.tar", shard_members(6, 6))
    data = str(tmp_path / "data")
    assert run(cache_main, arguments(world, tmp_path / "s", data=data)) == 2
    assert "train-0000.tar: sample broken: cannot be decoded" in capsys.readouterr().err
    assert run(cache_main, arguments(world, tmp_path / "s", data=data, on_bad_image="skip")) == 0
    assert "samples 12 (1 skipped: broken)" in " ".join(capsys.readouterr().out.split())
    store = open_store(str(tmp_path / "s"))
    assert store.skipped == ("broken",)
    assert b"broken" not in store.keys.tolist()


REFUSED = [
    ({"teacher": "vit_lagre"}, "unknown model 'vit_lagre'; nearest are .*vit_large"),
    ({"data": "nowhere"}, "nowhere: no such file"),
    ({"data": "EMPTY"}, "empty.tar: an empty shard"),
    ({"data": "CUT"}, "cut.tar: .*truncated"),
    ({"data": "UNLABELLED"}, "unlabelled.tar: 1 images without labels"),
    ({"data": "TWICE"}, "twice.tar: two samples with one key, 'x'"),
    ({"data": "LABELS"}, "41 classes without names; resnet18: 12 classes without names. Nothing says which is which"),
    ({"k": 13}, "-k 13: resnet18 has 12 classes"),
    ({"k": 0}, "--k 0: wanted at least 1"),
    ({"policy": "mixup"}, "--policy 'mixup': found 'mixup'; wanted mixup-ALPHA, such as mixup-0.8"),
    ({"policy": '{"name": "fixed", "crop_fraction": 1.0, "seed": 3}'}, "the seed is given by --view_seed"),
    ({"format": "parquet"}, "format(?s:.*)zarr"),
    ({"teacher": "", "data": ""}, "--teacher and --data not given(?s:.*)make cache TEACHER="),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[m[:24] for _, m in REFUSED])
def test_wrong_input_is_refused_and_leaves_nothing(world, tmp_path, capsys, settings, message):
    special = {
        "EMPTY": write_tar(tmp_path / "empty.tar", {}),
        "UNLABELLED": write_tar(tmp_path / "unlabelled.tar", {"x.jpg": jpeg(0)}),
        "TWICE": write_tar(tmp_path / "twice.tar", {"x.jpg": jpeg(0), "x.png": jpeg(0), "x.cls": b"1"}),
        "LABELS": write_tar(tmp_path / "labels.tar", {"x.jpg": jpeg(0), "x.cls": b"40"}),
        "CUT": tmp_path / "cut.tar",
    }
    whole = write_tar(tmp_path / "cut.tar", shard_members(0, 5)).read_bytes()
    special["CUT"].write_bytes(whole[:3000])
    settings = {name: str(special.get(value, value)) for name, value in settings.items()}
    assert run(cache_main, arguments(world, tmp_path / "s", **settings)) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) <= 24
    assert re.search(message, error), error
    assert not (tmp_path / "s").exists()


def test_another_teacher_does_not_write_into_a_store(world, tmp_path, capsys):
    cache(config(world, tmp_path / "s"))
    before = tree_bytes(tmp_path / "s")
    make_teacher(tmp_path / "other", seed=1)
    for settings, field in (
        ({"teacher": f"local-dir:{tmp_path / 'other'}"}, "weights_sha256"),
        ({"k": 4}, "k"),
        ({"policy": "fixed"}, "policy"),
        ({"split": "val"}, "dataset"),
    ):
        assert run(cache_main, arguments(world, tmp_path / "s", **settings)) == 2
        error = capsys.readouterr().err
        assert field in error
        assert str(tmp_path / "s") in error
        assert tree_bytes(tmp_path / "s") == before


def test_a_shard_without_one_good_image_is_an_error(world, tmp_path, capsys):
    write_tar(tmp_path / "bad.tar", {"x.jpg": b"no", "x.cls": b"11"})
    argv = arguments(world, tmp_path / "s", data=str(tmp_path / "bad.tar"), on_bad_image="skip")
    assert run(cache_main, argv) == 2
    assert "none of its images can be decoded" in capsys.readouterr().err


def test_resharding_keeps_the_datasets_identity(world, tmp_path):
    """The digest is over keys and labels; how they lie in shards is not part of it."""
    make_dataset(tmp_path / "data", shard_sizes=(40, 31))
    for name, data in (("a", world / "data"), ("b", tmp_path / "data")):
        cache(config(world, tmp_path / name, data=str(data), views=1))
    first, second = (open_store(str(tmp_path / name)) for name in "ab")
    assert first.manifest.identity.fingerprint == second.manifest.identity.fingerprint
    order = second.rows(first.keys)
    assert torch.equal(first.load_view(0)[np.arange(71)].classes, second.load_view(0)[order].classes)


def test_the_command_is_the_function(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["cache-teacher"])
    assert main() == 2
    assert "--teacher and --data not given" in capsys.readouterr().err
