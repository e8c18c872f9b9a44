"""Parquet files beside images are strays; where they are the dataset, finding them costs one look at each folder."""

import os

import pytest

from pld.errors import ParquetFilesError
from pld.images import open_source
from pld.images.open_reader import open_reader
from pld.images.sources.forms.parquet_files import parquet_files
from tests.images.sources.forms import making
from tests.making import jpeg, write_tar

STRAYS = ("metadata.parquet", "train.parquet", "train/metadata.parquet", f"train/{making.WNIDS[0]}/x.parquet")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("unlabelled", [False, True])
@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_file_does_not_hide_class_folders(stray, unlabelled, tmp_path):
    folder = making.make_folder(tmp_path / "imf", val=True)
    making.write(folder / stray, b"PAR1")
    for opened in (open_source, open_reader):
        assert len(opened(str(folder), "train", unlabelled=unlabelled).keys) == making.NUM
        assert len(opened(str(folder), "val", unlabelled=unlabelled).keys) == making.NUM // 2


def test_a_stray_file_does_not_hide_kaggle_s_copy_loose_images_or_tars(tmp_path):
    kaggle = tmp_path / "ILSVRC"
    making.make_folder(kaggle / "Data" / "CLS-LOC")
    flat = making.write(tmp_path / "flat" / "0.jpg", jpeg(0)).parent
    deep = making.write(tmp_path / "deep" / "2020" / "01" / "02" / "0.jpg", jpeg(0)).parents[3]
    tars = tmp_path / "tars"
    write_tar(tars / "train" / "a.tar", {"0.jpg": jpeg(0), "0.cls": b"0"})
    for folder in (kaggle, flat, deep, tars):
        making.write(folder / "metadata.parquet", b"PAR1")
    assert len(open_source(str(kaggle))) == making.NUM
    for folder in (flat, deep, tars):
        assert len(open_source(str(folder), unlabelled=True)) == 1


@pytest.mark.parametrize("unlabelled", [False, True])
def test_pictures_of_a_readme_do_not_hide_the_hub_s_files(unlabelled, tmp_path):
    hub = making.make_parquet(tmp_path / "hub")
    making.write(hub / "assets" / "cover.png", jpeg(0))
    assert len(open_reader(str(hub), "train", unlabelled=unlabelled).keys) == making.NUM
    with pytest.raises(ParquetFilesError, match="2 Parquet files"):
        open_source(str(hub), unlabelled=unlabelled)


def test_patterns_list_each_folder_once_and_tars_none(tmp_path, monkeypatch):
    listed, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listdir(path))
    for number in range(20):
        (tmp_path / f"train-{number:02d}.parquet").touch()
    assert len(parquet_files(tmp_path / "train-{00..19}.parquet", "train")) == 20
    assert len(parquet_files(tmp_path / "train-*.parquet", "train")) == 20
    assert listed == [tmp_path, tmp_path]
    assert parquet_files(tmp_path / "train-{00..20}.parquet", "train") == []
    monkeypatch.setattr("pld.images.sources.forms.parquet_files.braceexpand", None)
    assert parquet_files(tmp_path / "train-{0000..1023}.tar", "train") == []


@pytest.mark.parametrize("location", ["hub", "hub/data/train-*.parquet"])
def test_the_command_looks_for_parquet_files_once(location, tmp_path, monkeypatch):
    making.make_parquet(tmp_path / "hub")
    calls = []
    monkeypatch.setattr(
        "pld.images.sources.forms.parquet_files.parquet_files",
        lambda *arguments: calls.append(arguments) or parquet_files(*arguments),
    )
    assert len(open_reader(str(tmp_path / location), "train").keys) == making.NUM
    assert len(calls) == 1


def test_a_folder_of_images_is_not_listed_for_it(tmp_path, monkeypatch):
    folder = making.make_folder(tmp_path / "imf")
    scanned, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(path) or scandir(path))
    assert parquet_files(folder, "train") == []
    assert len(scanned) <= 4
