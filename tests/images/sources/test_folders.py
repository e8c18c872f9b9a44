"""Folders as people have them: which are splits, which are classes, and what is said where that is in doubt."""

import json

import numpy as np
import pytest

from pld.errors import DataError
from pld.images import open_source
from pld.images.sources.splits import shard_group, split_of
from tests.making import jpeg, write_tar


def fill(root, *paths):
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(jpeg(number))
    return root


def labels(source):
    """Each key with the name of its class."""
    names = source.class_names
    return {source.key(row): names[label] for row, label in enumerate(source.labels.tolist())}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("seg_train", "train"),
        ("train2017", "train"),
        ("ILSVRC2012_img_val", "val"),
        ("imagenet1k-validation", "val"),
        ("VALID", "val"),
        ("Testing", "test"),
        ("test_set", "test"),
        ("ant", None),
        ("trains", None),
        ("train_test", None),
        ("strain", None),
    ],
)
def test_names_of_splits(name, split):
    assert split_of(name) == split


def test_what_a_shard_is_part_of():
    assert [shard_group(stem) for stem in ("train-0012", "imagenet1k-train-0000", "0003", "a", "val_7")] == [
        "train", "imagenet1k-train", "", "a", "val",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("train", "val"), [("train", "val"), ("Training", "Validation"), ("seg_train", "seg_val"), ("TRAIN", "valid")]
)
def test_splits_under_the_names_that_people_use(tmp_path, train, val):
    fill(tmp_path, f"{train}/ant/1.jpg", f"{train}/bee/1.jpg", f"{val}/ant/2.jpg", f"{val}/bee/2.jpg")
    assert labels(open_source(str(tmp_path))) == {"ant/1": "ant", "bee/1": "bee"}
    assert labels(open_source(str(tmp_path), "val")) == {"ant/2": "ant", "bee/2": "bee"}
    assert len(open_source(str(tmp_path), "validation")) == 2


@pytest.mark.parametrize("names", [("train-0", "val-0"), ("data_train_00", "data_valid_00"), ("train0000", "val0000")])
def test_splits_of_tars(tmp_path, names):
    for name in names:
        write_tar(tmp_path / f"{name}.tar", {f"{name}.jpg": jpeg(0), f"{name}.cls": b"0"})
    for split, name in zip(("train", "val"), names, strict=True):
        assert open_source(str(tmp_path), split).keys.tolist() == [name.encode()]
    with pytest.raises(DataError, match=r"no split 'test'.*--split"):
        open_source(str(tmp_path), "test")


def test_a_split_that_is_not_there(tmp_path):
    fill(tmp_path, "seg_train/ant/1.jpg", "seg_train/bee/1.jpg", "seg_test/ant/2.jpg", "seg_test/bee/2.jpg")
    with pytest.raises(DataError, match=r"no split 'val'.*found seg_test, seg_train. Name one of these with --split"):
        open_source(str(tmp_path), "val")
    assert len(open_source(str(tmp_path), "test")) == 2
    fill(tmp_path, "train/ant/1.jpg", "train/bee/1.jpg", "train/cat/1.jpg")
    with pytest.raises(DataError, match="seg_train, train could all be the split 'training'"):
        open_source(str(tmp_path), "training")
    assert len(open_source(str(tmp_path), "train")) == 3


def test_classes_are_those_of_the_training_split(tmp_path):
    fill(tmp_path, *(f"train/{name}/1.jpg" for name in ("ant", "bee", "cat")), "val/ant/2.jpg", "val/cat/2.jpg")
    for location, split in ((tmp_path, "val"), (tmp_path / "val", "train")):  # the split's own folder, too
        val = open_source(str(location), split)
        assert val.class_names == ("ant", "bee", "cat")
        assert labels(val) == {"ant/2": "ant", "cat/2": "cat"}
        assert val.labels.tolist() == [0, 2]
        assert any("no images of 1 of 3 classes: 'bee'" in note for note in val.notes)
    (tmp_path / "val" / "bee").mkdir()  # empty says no more than missing
    assert open_source(str(tmp_path), "val").labels.tolist() == [0, 2]
    fill(tmp_path, "val/wasp/2.jpg")
    with pytest.raises(
        DataError, match=r"val/wasp: a class folder that the training split.*does not list.*--class_names"
    ):
        open_source(str(tmp_path), "val")


def test_stated_names_give_the_numbers(tmp_path):
    fill(tmp_path, *(f"train/{name}/1.jpg" for name in ("0", "1", "10", "2")))
    assert open_source(str(tmp_path)).labels.tolist() == [0, 1, 2, 3]
    order = ("0", "1", "2", "3", "10")
    assert open_source(str(tmp_path), class_names=order).labels.tolist() == [0, 1, 4, 2]
    (tmp_path / "dataset.json").write_text(json.dumps({"class_names": order[::-1]}))
    source = open_source(str(tmp_path))
    assert source.class_names == order[::-1]
    assert labels(source) == {f"{name}/1": name for name in ("0", "1", "10", "2")}
    assert open_source(str(tmp_path), class_names=order).labels.tolist() == [0, 1, 4, 2]  # what is given comes first
    with pytest.raises(DataError, match=r"train/10: a class folder that --class_names does not list"):
        open_source(str(tmp_path), class_names=("0", "1", "2"))


def test_two_lists_for_the_numbers_of_tars(tmp_path):
    write_tar(tmp_path / "a.tar", {"x.jpg": jpeg(0), "x.cls": b"1"})
    assert open_source(str(tmp_path / "a.tar"), class_names=("ant", "bee")).class_names == ("ant", "bee")
    with pytest.raises(DataError, match="label 1, but --class_names names 1 classes"):
        open_source(str(tmp_path / "a.tar"), class_names=("ant",))
    (tmp_path / "dataset.json").write_text(json.dumps({"class_names": ["bee", "ant"]}))
    with pytest.raises(DataError, match=r"its labels number the 2 classes of .*dataset.json.*Leave --class_names out"):
        open_source(str(tmp_path / "a.tar"), class_names=("ant", "bee"))


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            ["Data/imagenet/train/n01/a.jpg", "Data/imagenet/train/n02/b.jpg", "Data/imagenet/val/n01/c.jpg"],
            "none of its 1 folders, 'Data', holds an image itself.*name .*Data/imagenet;",
        ),
        (["photos/ant/1.jpg", "photos/bee/2.jpg"], "none of its 1 folders, 'photos'.*name .*photos;"),
        (["train/1.jpg", "val/2.jpg"], r"train: 1 images without labels.*--labels FILE"),
        (["1.jpg", "2.jpg"], r"2 images without labels: no class folders.*--labels FILE.*LOC_val_solution.csv"),
    ],
)
def test_folders_that_are_no_classes(tmp_path, paths, message):
    fill(tmp_path / "d", *paths)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "d"))


def test_the_advice_of_these_errors_is_right(tmp_path):
    kaggle = fill(
        tmp_path / "k", "Data/CLS-LOC/train/n01/a.jpg", "Data/CLS-LOC/train/n02/b.jpg", "Data/CLS-LOC/val/n01/c.jpg"
    )
    assert labels(open_source(str(kaggle / "Data" / "CLS-LOC"))) == {"n01/a": "n01", "n02/b": "n02"}
    assert len(open_source(str(kaggle / "Data" / "CLS-LOC"), "val")) == 1
    deep = fill(tmp_path / "deep", "ant/monday/1.jpg", "bee/tuesday/2.jpg")
    source = open_source(str(deep), class_names=("ant", "bee"))
    assert labels(source) == {"ant/monday/1": "ant", "bee/tuesday/2": "bee"}


def test_one_class_is_questioned(tmp_path):
    """As Flowers-102 comes, in a folder `jpg`."""
    source = open_source(str(fill(tmp_path, "jpg/1.jpg", "jpg/2.jpg")))
    assert source.class_names == ("jpg",)
    assert any("one class folder, 'jpg': are all of its images of one class?" in note for note in source.notes)


def test_a_class_may_be_named_train(tmp_path):
    fill(tmp_path, "bus/1.jpg", "car/1.jpg", "train/1.jpg")
    assert open_source(str(tmp_path)).class_names == ("bus", "car", "train")


def test_deeper_images_are_told_of(tmp_path):
    fill(tmp_path, "ant/1.jpg", "bee/more/2.jpg")
    source = open_source(str(tmp_path))
    assert labels(source) == {"ant/1": "ant", "bee/more/2": "bee"}
    assert any("1 class folders hold images in folders of their own: 'bee'" in note for note in source.notes)
    fill(tmp_path, "loose.jpg")
    assert any("1 images next to the class folders" in note for note in open_source(str(tmp_path)).notes)


@pytest.mark.parametrize(
    ("tar", "folder", "right"),
    [
        ("train-0000.tar", "train/ant/1.jpg", ["train-0000.tar", "train"]),
        ("train/x.tar", "train/ant/1.jpg", ["train/x.tar"]),
        ("shard.tar", "ant/1.jpg", ["shard.tar"]),
    ],
)
def test_class_folders_and_tars_together_are_an_error_that_names_both(tmp_path, tar, folder, right):
    write_tar(tmp_path / tar, {"x.jpg": jpeg(0), "x.cls": b"0"})
    fill(tmp_path, folder, folder.replace("ant", "bee"))
    with pytest.raises(DataError, match=r"'ant', 'bee'.*\.tar"):
        open_source(str(tmp_path))
    for location in right:
        assert len(open_source(str(tmp_path / location))) in (1, 2)


@pytest.mark.parametrize(
    ("names", "advised"),
    [
        (["train-0000", "train-0001", "train-0002"], "train-{0000..0002}.tar"),
        (["train-7", "train-8"], "train-{7..8}.tar"),
        (["train-0", "train-2"], "train-0.tar"),
        (["train_a"], "train_a.tar"),
    ],
)
def test_the_pattern_that_is_advised_opens(tmp_path, names, advised):
    fill(tmp_path, "train/ant/1.jpg", "train/bee/1.jpg")
    for name in names:
        write_tar(tmp_path / f"{name}.tar", {f"{name}.jpg": jpeg(0), f"{name}.cls": b"0"})
    with pytest.raises(DataError) as caught:
        open_source(str(tmp_path))
    assert f"name '{tmp_path}/{advised}', or the folder {tmp_path}/train" in str(caught.value)
    assert len(open_source(f"{tmp_path}/{advised}")) == (1 if len(names) == 1 or "0.tar" in advised else len(names))


def test_junk_is_no_class_and_no_sample(tmp_path):
    fill(tmp_path, "ant/1.jpg", "bee/2.jpg", "__MACOSX/ant/._1.jpg", "ant/._1.jpg", "bee/.DS_Store", "bee/Thumbs.db")
    fill(tmp_path, "bee/readme.txt", "bee/notes.TXT", "ant/x.npy")
    source = open_source(str(tmp_path))
    assert labels(source) == {"ant/1": "ant", "bee/2": "bee"}
    assert dict(source.left_out) == {"junk": 3, ".txt": 2, ".npy": 1}


def test_a_subset_and_its_shards_have_the_keys_of_the_whole(tmp_path):
    whole = fill(tmp_path / "whole", *(f"{name}/{i:03}.jpg" for name in ("ant", "bee") for i in range(4)))
    part = fill(tmp_path / "part", "ant/000.jpg", "bee/001.jpg")  # every file name is unique here
    keys = open_source(str(whole)).keys
    assert set(open_source(str(part)).keys.tolist()) <= set(keys.tolist())
    tar = write_tar(tmp_path / "t.tar", {"bee/001.jpg": jpeg(0), "bee/001.cls": b"1"})
    assert open_source(str(tar)).keys.tolist() == [b"bee/001"]
    assert np.unique(keys).size == 8
