"""What is no dataset is recognised, and the message names the right command."""

import io
import os
import pickle

import numpy as np
import pytest
import safetensors.numpy
import torch

from pld.cli.main import _main
from pld.config import run
from pld.errors import ConfigError, DataError
from pld.images import open_source
from pld.images.open_reader import open_reader
from tests.images.sources.forms import making
from tests.making import jpeg


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, images=np.zeros(3))
    return buffer.getvalue()


def torch_file():
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, buffer)
    return buffer.getvalue()


def tfrecord():
    payload = b"\x0a\x20" + bytes(40)
    return len(payload).to_bytes(8, "little") + b"crc4" + payload + b"crc4"


FILES = {
    "train.npz": (npz(), r"NumPy arrays in an \.npz; write its images"),
    "train.npy": (b"\x93NUMPY\x01\x00" + bytes(200), "a NumPy array"),
    "train.h5": (b"\x89HDF\r\n\x1a\n" + bytes(600), "an HDF5 file"),
    "train.zip": (b"PK\x03\x04" + bytes(26) + b"a.jpg" + bytes(100), r"a ZIP archive; unpack it, unzip .*train.zip"),
    "data_batch_1": (pickle.dumps({b"batch_label": b"batch 1"}, 2), "CIFAR as pickles.*pld data cifar10 --shards OUT"),
    "train": (pickle.dumps({b"fine_labels": [1], b"coarse_labels": [2]}, 2), "CIFAR as pickles"),
    "other.pkl": (pickle.dumps([1, 2, 3]), "a pickle, which can run any code"),
    "train-00000-of-01024": (tfrecord(), "TFRecords"),
    "resnet.pth": (torch_file(), r"a PyTorch file, probably a model.*--weights .*resnet\.pth"),
    "old.pth": (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "a pickle"),
    "model.safetensors": (safetensors.numpy.save({"w": np.zeros(2)}), "a safetensors file, a model"),
    "model.onnx": (b"\x08\x07\x12\x07pytorch" + bytes(20), "an ONNX file: a model"),
    "cat.jpg": (jpeg(1), "a single image, a JPEG; wanted the folder"),
    "train.tar": (b"<!DOCTYPE html><title>404</title>" + bytes(600), "a web page"),
    "val.tar": (b"version https://git-lfs.github.com/spec/v1\n" + bytes(600), "git lfs pull"),
    "train.txt": (b"a.jpg 1\nb.jpg 2\n", "a text file; wanted a CSV file"),
    "cut.tar": (making.tar_bytes({"a.jpg": jpeg(1), "a.cls": b"1"})[:600], "truncated"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("inside", [False, True])
def test_a_file_is_recognised(name, inside, tmp_path, capsys):
    """Named itself, and as the only file of a folder."""
    content, message = FILES[name]
    path = making.write(tmp_path / "data" / name, content)
    if inside and (name.endswith(".tar") or name == "cat.jpg"):
        return
    for command in (["data", str(path.parent if inside else path)],):
        assert run(_main, command) == 2
        err = capsys.readouterr().err
        assert "Traceback" not in err
    with pytest.raises(DataError, match=message):
        open_source(str(path.parent if inside else path))


def test_folders_are_recognised(tmp_path):
    for name in ("train", "test", "meta"):
        making.write(tmp_path / "cifar" / "cifar-100-python" / name, pickle.dumps({}))
    making.write(tmp_path / "lmdb" / "data.mdb", bytes(100))
    making.write(tmp_path / "model" / "config.json", "{}")
    making.write(tmp_path / "model" / "model.safetensors", bytes(100))
    making.make_csv(tmp_path / "csv" / "labels.csv")
    (tmp_path / "csv" / "images").rename(tmp_path / "elsewhere")
    for folder, message in {
        "cifar": "cifar-100-python is CIFAR as pickles",
        "cifar/cifar-100-python": "CIFAR as pickles",
        "lmdb": "an LMDB database",
        "model": "--teacher local-dir:",
        "csv": r"that holds labels.csv; if that has path,label lines, name .*labels.csv",
    }.items():
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / folder))


def test_parquet_is_read_by_the_command_that_the_message_names(tmp_path, capsys):
    folder = making.make_parquet(tmp_path / "hub")
    for location in (folder, folder / "data" / "train-00000-of-00002.parquet"):
        with pytest.raises(DataError, match=r"Parquet files; they are compressed.*pld data .* --shards OUT"):
            open_source(str(location))
    assert run(_main, ["data", str(folder), "--split", "val", "--shards", str(tmp_path / "out")]) == 0
    assert len(open_source(str(tmp_path / "out"), "val")) == 5
    assert run(_main, ["data", str(folder)]) == 0
    assert "60 images in 6 shards, 12 named classes" in capsys.readouterr().out
    assert run(_main, ["data", str(folder), "--decode"]) == 2
    assert "add --shards OUT" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"no split 'test' among its Parquet files; found train, validation"):
        open_reader(str(folder), "test")
    with pytest.raises(ConfigError, match="leave --labels out"):
        open_reader(str(folder), "train", labels="x.csv")


def test_what_lacks_says_which_extra_to_install(tmp_path, monkeypatch):
    folders = making.make_parquet(tmp_path / "p"), making.make_arrow(tmp_path / "a")
    for name in ("parquet", "arrow", "huggingface"):
        monkeypatch.delitem(__import__("sys").modules, f"pld.images.sources.forms.{name}", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for folder in folders:
        with pytest.raises(ConfigError, match=r"needs pyarrow: pip install '\.\[parquet\]'"):
            open_reader(str(folder), "train")


def test_links_and_missing_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        open_source(str(tmp_path / "train-*.parquet"))
    hub = making.make_parquet(tmp_path / "hub")
    with pytest.raises(DataError, match=r"no such file \(2 of 4 shards are missing\)"):
        open_reader(str(hub / "data" / "train-{00000..00003}-of-00002.parquet"), "train")
    os.symlink("nowhere", tmp_path / "x.csv")  # noqa: PTH211
    with pytest.raises(DataError, match="no such file"):
        open_source(str(tmp_path / "x.csv"))
