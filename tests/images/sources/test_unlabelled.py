"""Images without labels: flat and nested folders, splits of them, tars without .cls; only where it is asked for."""

import json
import shutil

import fsspec
import pytest

from pld.cli.main import _main
from pld.config import run
from pld.errors import DataError, NoLabelsError
from pld.images import open_source
from pld.images.dataset import ImageDataset, read_image
from pld.images.shards.write import write_shards
from pld.views import Fixed, policy_to_json
from tests.images.sources.test_folders import fill
from tests.making import jpeg, write_tar


def opened(*arguments, **settings):
    return open_source(*map(str, arguments), unlabelled=True, **settings)


def keys(source):
    return [source.key(row) for row in range(len(source))]


def test_every_image_below_a_folder(tmp_path):
    fill(tmp_path, "b.jpg", "a/1.png", "a/deep/2.webp", "c/c_3.jpg")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    source = opened(tmp_path)
    assert keys(source) == ["a/1", "a/deep/2", "b", "c_3"]  # as the labelled form makes them
    assert (source.labels, source.label(0), source.class_names) == (None, None, None)
    assert isinstance(source, ImageDataset)
    assert source.left_out == {".txt": 1}
    assert source.notes == (f"{tmp_path}: images without labels; its folders, 'a', 'c', are not taken for classes",)
    assert read_image(source, 0).shape[0] == 3
    assert keys(source.subset(source.keys != b"b")) == ["a/1", "a/deep/2", "c_3"]


def test_a_flat_folder_has_no_note(tmp_path):
    assert opened(fill(tmp_path, "1.jpg", "2.jpg")).notes == ()


@pytest.mark.parametrize("form", ["flat", "nested", "tars"])
def test_splits(tmp_path, form):
    if form == "tars":
        for split in ("train", "val"):
            write_tar(tmp_path / f"{split}-0000.tar", {f"{split}.jpg": jpeg(0)})
    else:
        middle = "x/" if form == "nested" else ""
        fill(tmp_path, *(f"{split}/{middle}{split}.jpg" for split in ("train", "val")))
    for split in ("train", "val", "validation"):
        assert keys(opened(tmp_path, split)) == [("x/" if form == "nested" else "") + split.removesuffix("idation")]
    with pytest.raises(DataError, match="no split 'test'"):
        opened(tmp_path, "test")


def test_folders_next_to_a_split_are_named(tmp_path):
    fill(tmp_path, "train/1.jpg", "more/deep/2.jpg")
    (tmp_path / "empty").mkdir()
    assert "'more' hold images next to the split 'train' and are left out" in opened(tmp_path).notes[-1]
    assert "'empty'" not in opened(tmp_path).notes[-1]


@pytest.mark.parametrize("form", ["folders", "tars", "tars without a split"])
def test_images_next_to_a_split_are_counted(tmp_path, form):
    fill(tmp_path, "2.jpg", "3.jpg")
    if form == "folders":
        fill(tmp_path, "train/1.jpg", "val/1.jpg")
    else:
        write_tar(tmp_path / ("train-0000.tar" if form == "tars" else "0000.tar"), {"1.jpg": jpeg(0)})
    source = opened(tmp_path)
    assert keys(source) == ["1"]
    assert any("2 images next to the splits or shards are left out" in note for note in source.notes)


def test_class_folders_are_only_folders_and_their_names_no_classes(tmp_path):
    fill(tmp_path, "train/ant/1.jpg", "train/bee/1.jpg")
    (tmp_path / "dataset.json").write_text(
        json.dumps({"class_names": ["ant", "bee"], "view_policy": policy_to_json(Fixed())})
    )
    labelled, source = open_source(str(tmp_path)), opened(tmp_path)
    assert keys(source) == keys(labelled)
    assert source.class_names is None
    assert source.policy == labelled.policy == Fixed()
    assert opened(tmp_path, class_names=["x", "y"]).class_names == ("x", "y")


def test_tars_with_and_without_labels(tmp_path):
    members = {f"{i}.jpg": jpeg(i) for i in range(4)} | {"2.cls": b"7"}
    tar = write_tar(tmp_path / "a.tar", members)
    source = opened(tar)
    assert (keys(source), source.labels) == (["0", "1", "2", "3"], None)
    assert source.notes == (f"{tar}: the labels of 1 images are not used",)
    with pytest.raises(NoLabelsError, match=r"sample '0' has no label \(3 of 4 have none\).* labels: --unlabelled$"):
        open_source(str(tar))  # though its index was kept
    assert read_image(source, 2).shape == (3, 40, 48)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["1.jpg", "2.jpg"], "2 images without labels: no class folders"),
        (["train/1.jpg", "val/2.jpg"], "train: 1 images without labels: no class folders"),
    ],
)
def test_without_the_option_the_error_names_it_and_it_helps(tmp_path, paths, message):
    fill(tmp_path, *paths)
    with pytest.raises(NoLabelsError, match=f"{message}.*or go without labels: --unlabelled$"):
        open_source(str(tmp_path))
    assert len(opened(tmp_path)) > 0


def test_a_folder_without_images(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DataError, match="no images in it or below, and no tar shards"):
        opened(tmp_path)


def test_two_images_of_one_key(tmp_path):
    with pytest.raises(DataError, match="two samples with one key, 'a'"):
        opened(fill(tmp_path, "a.jpg", "a.png"))


def test_shards_of_them(tmp_path, capsys):
    data = fill(tmp_path / "data", *(f"{i}.jpg" for i in range(7)))
    out = tmp_path / "shards"
    argv = ["data", str(data), "--shards", str(out), "--shard_samples", "3"]
    assert run(_main, argv) == 2
    assert "--unlabelled" in capsys.readouterr().err
    assert run(_main, [*argv, "--unlabelled"]) == 0
    told = capsys.readouterr().out
    assert "7 images in 3 shards, without labels" in told
    assert f"now --data {out} --unlabelled" in told
    source, written = opened(data), opened(out)
    by_key = {source.key(row): source.read(row) for row in range(7)}
    assert {written.key(row): written.read(row) for row in range(7)} == by_key
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(before) == {f"train-000{i}.tar" for i in range(3)}
    (out / "unfinished").mkdir()
    for name in before:
        shutil.move(out / name, out / "unfinished" / name)
    (out / "unfinished" / "train-0001.tar").unlink()
    write_shards(source, out, "train", 3, lambda _: None)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_tars_behind_a_url(tmp_path, bucket):
    members = {f"{i}.jpg": jpeg(i) for i in range(3)}
    fsspec.filesystem("s3").put(str(write_tar(tmp_path / "train-0.tar", members)), f"{bucket}/data/train-0.tar")
    source = opened(f"{bucket}/data")
    assert (keys(source), source.labels) == (["0", "1", "2"], None)
    assert source.read(1) == members["1.jpg"]
    with pytest.raises(NoLabelsError, match=r"data/train-0\.tar: sample '0' has no label"):
        open_source(f"{bucket}/data")
