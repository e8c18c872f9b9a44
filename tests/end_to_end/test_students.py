"""Stores and students: any subset, sharding or folder of the images that were cached, and the classes by name."""

import json
import re
import shutil

import numpy as np
import pytest

from cache_teacher.config import CacheConfig
from cache_teacher.inputs import store_identity
from pld.images import open_source
from pld.images.sources.keys import first_version_keys
from pld.join.match import join_source, use_store_keys
from pld.provenance import provenance
from pld.store import Shard, StoreWriter, open_store
from pld.teachers import build_teacher
from pld.views import RandomResizedCrop
from tests.end_to_end.colours import NAMES, colour_folder, colour_tar, sure_teacher
from tests.end_to_end.commands import LEARNING, cached, caching, facts, metrics, training
from tests.making import write_tar


def dataset(root, names=NAMES[:3]):
    """Two splits of images that are numbered anew in each class."""
    colour_folder(root / "train", names, each=8)
    colour_folder(root / "val", names, each=4, first=100)
    return root


def name_apart(folder):
    """Give the images of class folders file names of their own, so that a flat tar can hold them."""
    for path in list(folder.glob("*/*.png")):
        path.rename(path.with_name(f"{path.parent.name[0]}{path.name}"))


def as_tar(path, source, name=str):
    """A source's images in one tar, under names made of their keys."""
    members = {}
    for row in range(len(source)):
        members[f"{name(source.key(row))}.png"] = source.read(row)
        members[f"{name(source.key(row))}.cls"] = str(int(source.labels[row])).encode()
    return write_tar(path, members)


class TestKeys:
    @pytest.mark.parametrize("form", ["subset", "shards", "flat tar", "deeper"])
    def test_a_store_has_the_logits_of_its_images_in_any_form(self, tmp_path, teacher, form):
        data = dataset(tmp_path / "data")
        name_apart(data / "train")
        store = cached(data, teacher, tmp_path / "s")
        whole = open_source(str(data))
        by_key = {whole.key(row): whole.read(row) for row in range(len(whole))}
        if form == "subset":
            for name in NAMES[:3]:
                for path in list((data / "train" / name).iterdir())[2:]:
                    path.unlink()
            source = open_source(str(data))
            assert len(source) == 6
        elif form == "shards":
            halves = np.arange(len(whole)) % 2
            for number in (0, 1):
                as_tar(tmp_path / f"t-{number}.tar", whole.subset(halves == number))
            source = open_source(str(tmp_path / "t-{0..1}.tar"))
        elif form == "flat tar":
            source = open_source(str(as_tar(tmp_path / "t.tar", whole, lambda key: key.rpartition("/")[2])))
        else:
            source = open_source(str(as_tar(tmp_path / "t.tar", whole, lambda key: f"images/{key}")))
        found = join_source(store, source)
        assert len(found) == len(source)
        for row in range(len(found)):  # under the store's keys, from which views are drawn, the same images
            assert found.read(row) == by_key[found.key(row)]

    def test_a_store_of_a_flat_tar_has_those_of_the_folder(self, tmp_path, teacher):
        data = dataset(tmp_path / "data")
        name_apart(data / "train")
        whole = open_source(str(data))
        tar = as_tar(tmp_path / "t.tar", whole, lambda key: key.rpartition("/")[2])
        (tmp_path / "names.txt").write_text("\n".join(NAMES[:3]))
        store = cached(tar, teacher, tmp_path / "s", "--class_names", tmp_path / "names.txt")
        assert set(join_source(store, whole).keys.tolist()) == set(store.keys.tolist())

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ((), "24 of 24 samples.*ant/x000"),
            (("--missing", "skip"), "none of its 24 images has logits.*give the images that were cached"),
        ],
    )
    def test_none_left_is_an_error(self, tmp_path, teacher, capsys, more, message):
        data = dataset(tmp_path / "data")
        cached(data, teacher, tmp_path / "s")
        other = dataset(tmp_path / "other")
        for path in list((other / "train").rglob("*.png")):
            path.rename(path.with_stem(f"x{path.stem}"))
        assert training(other, tmp_path / "r", "--store", tmp_path / "s", *more) == 2
        assert re.search(message, capsys.readouterr().err)

    def test_missing_skip_leaves_the_rest(self, tmp_path, teacher, capsys):
        data = dataset(tmp_path / "data")
        cached(data, teacher, tmp_path / "s")
        colour_folder(data / "train", NAMES[:3], each=10)
        assert training(data, tmp_path / "r", "--store", tmp_path / "s") == 2
        assert "6 of 30 samples" in (error := capsys.readouterr().err)
        assert "--missing skip" in error  # as it says
        assert training(data, tmp_path / "r", "--store", tmp_path / "s", "--missing", "skip") == 0
        assert (facts(tmp_path / "r")["num_train"], facts(tmp_path / "r")["skipped_images"]) == (24, 6)

    def test_a_store_that_the_version_before_began_is_gone_on_with(self, tmp_path, teacher):
        data = colour_folder(tmp_path / "data", NAMES)
        name_apart(data)
        now = open_source(str(data))
        before = now.with_keys(first_version_keys(now.keys.tolist()))
        assert b"a000" in before.keys.tolist()
        built = build_teacher(f"local-dir:{teacher}")
        config = CacheConfig(teacher=f"local-dir:{teacher}", data=str(data), k=3)
        identity = store_identity(config, before, built, RandomResizedCrop())
        shards = [Shard(name=shard.name, num_samples=shard.num_samples) for shard in before.shards]
        StoreWriter.open(tmp_path / "s", identity, shards, provenance())
        store = cached(data, teacher, tmp_path / "s")
        assert store.manifest.identity.fingerprint == identity.fingerprint
        assert set(store.keys.tolist()) == set(before.keys.tolist())
        assert len(join_source(store, now)) == 48
        assert use_store_keys(store.manifest, now).keys.tolist() == before.keys.tolist()


class TestClasses:
    def test_validation_that_lacks_a_class_scores_by_name(self, tmp_path, teacher):
        """Val lacks bee: cats must not be scored as bees."""
        data = dataset(tmp_path / "data")
        assert training(data, tmp_path / "all", *LEARNING, "--loss", "ce") == 0
        shutil.rmtree(data / "val" / "bee")
        assert training(data, tmp_path / "few", *LEARNING, "--loss", "ce") == 0
        apart = shutil.copytree(data / "val", tmp_path / "elsewhere" / "few")
        assert training(data, tmp_path / "apart", *LEARNING, "--loss", "ce", "--val_data", apart) == 0
        top1 = [metrics(tmp_path / name)[-1]["top1"] for name in ("all", "few", "apart")]
        assert top1 == [100.0, 100.0, 100.0]

    def test_validation_in_another_order_is_matched(self, tmp_path, capsys):
        data = dataset(tmp_path / "data")
        val = colour_tar(tmp_path / "v" / "val-0.tar", {"cat": 0, "ant": 1, "bee": 2})
        (tmp_path / "v" / "dataset.json").write_text(json.dumps({"class_names": ["cat", "ant", "bee"]}))
        assert training(data, tmp_path / "r", *LEARNING, "--loss", "ce", "--val_data", val) == 0
        assert metrics(tmp_path / "r")[-1]["top1"] == 100.0
        (tmp_path / "v" / "dataset.json").write_text(json.dumps({"class_names": ["cat", "ant", "wasp"]}))
        assert training(data, tmp_path / "r2", *LEARNING, "--loss", "ce", "--val_data", val) == 2
        assert "1 of 3 classes are not among those of" in capsys.readouterr().err

    def test_training_images_in_another_order_than_the_store(self, tmp_path, teacher):
        data = dataset(tmp_path / "data")
        cached(data, teacher, tmp_path / "s")
        (data / "dataset.json").write_text(json.dumps({"class_names": ["cat", "bee", "ant"]}))
        found = join_source(open_store(tmp_path / "s"), open_source(str(data)))
        assert found.class_names == ("ant", "bee", "cat")
        assert training(data, tmp_path / "r", "--store", tmp_path / "s") == 0

    def test_labels_without_names_are_compared_with_the_stores(self, tmp_path, teacher, capsys):
        data = dataset(tmp_path / "data")
        store = cached(data, teacher, tmp_path / "s")
        right = as_tar(tmp_path / "right.tar", open_source(str(data)))
        assert len(join_source(store, open_source(str(right)))) == 24
        (data / "dataset.json").write_text(json.dumps({"class_names": ["cat", "bee", "ant"]}))
        wrong = as_tar(tmp_path / "wrong" / "wrong.tar", open_source(str(data)))
        assert training(wrong, tmp_path / "r", "--store", tmp_path / "s", "--val_data", "none") == 2
        assert "16 of 24 labels are not those of" in capsys.readouterr().err

    def test_a_live_teacher_is_mapped_as_a_cached_one(self, tmp_path, teacher, capsys):
        data = dataset(tmp_path / "data", NAMES[2:5])
        live = ("--online-teacher", "--teacher", f"local-dir:{teacher}", "--loss", "kd")
        assert training(data, tmp_path / "r", *live) == 0
        assert facts(tmp_path / "r")["num_classes"] == 3
        (data / "train" / "eel").rename(data / "train" / "aal")
        (data / "val" / "eel").rename(data / "val" / "aal")
        assert training(data, tmp_path / "r2", *live) == 2
        assert "'aal'" in capsys.readouterr().err
        (tmp_path / "map.tsv").write_text("aal\teel\n")
        assert training(data, tmp_path / "r2", *live, "--class_map", tmp_path / "map.tsv") == 0

    def test_a_student_is_a_teacher_that_states_its_classes(self, tmp_path, teacher):
        """What a run exports agrees by name with other data."""
        data = dataset(tmp_path / "data", NAMES[:4])
        cached(data, teacher, tmp_path / "s", "-k", 4)
        assert training(data, tmp_path / "r", "--store", tmp_path / "s", *LEARNING) == 0
        store = cached(
            colour_folder(tmp_path / "few", ("dog", "bee")), tmp_path / "r" / "model", tmp_path / "s2", "-k", 2
        )
        assert store.stats.accuracy == 1.0
        assert store.manifest.identity.teacher.class_map.columns == (1, 3)


def test_a_recipes_teacher_and_another_store(tmp_path, teacher, capsys):
    data = dataset(tmp_path / "data")
    cached(data, teacher, tmp_path / "s")
    assert training(data, tmp_path / "r", "--store", tmp_path / "s", "--teacher", "resnet152") == 0
    assert "names the teacher resnet152.gluon_in1k, but the store was made by resnet18" in capsys.readouterr().out
    assert training(data, tmp_path / "r2", "--store", tmp_path / "s", "--teacher", "resnet18") == 0
    assert "names the teacher" not in capsys.readouterr().out


def test_a_fixed_view_is_one(tmp_path, teacher, capsys):
    data = dataset(tmp_path / "data")
    assert caching(data, teacher, tmp_path / "s", "--policy", "fixed", "--views", 10) == 0
    assert "in place of 10" in capsys.readouterr().err
    assert open_store(tmp_path / "s").num_views == 1


def test_the_default_teacher_of_eight_is_right(tmp_path):
    """The tests' own teacher: what they call right is right."""
    store = cached(colour_folder(tmp_path / "d"), sure_teacher(tmp_path / "t"), tmp_path / "s")
    assert store.stats.accuracy == 1.0
