"""Errors know what they look at, and what they advise makes the next run right."""

import io
import json
import os
import pickle
import subprocess
import tarfile

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
import scipy.io
import torch

from pld.cli.main import _main
from pld.config import run
from pld.errors import ConfigError, DataError
from pld.images import open_source
from pld.images.open_reader import open_reader
from tests.images.sources.forms import making
from tests.making import jpeg, shard_members, write_tar


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))


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
    "cat.jpg": (jpeg(1), "one image, a JPEG; wanted the folder"),
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


def changed(column, values):
    made = making.table()
    index = made.schema.get_field_index(column)
    return made.set_column(index, made.schema.field(column), pa.array(values, made.schema.field(column).type))


@pytest.mark.parametrize("maker", [making.make_parquet, making.make_arrow])
def test_tables_that_cannot_be_used(maker, tmp_path):
    number = 0

    def opened(made, **options):
        nonlocal number
        number += 1
        reader = open_reader(str(maker(tmp_path / str(number), made)), "train", **options)
        list(reader.read_units([np.arange(1), np.arange(reader.shard_sizes[0])]))
        return reader

    labels = making.table().column("label").to_pylist()
    with pytest.raises(DataError, match=r"2 of 60 images have no label in the column 'label', as in test splits"):
        opened(changed("label", [-1, None, *labels[2:]]))
    with pytest.raises(DataError, match="label 99, but there are names of 12 classes"):
        opened(changed("label", [99, *labels[1:]]))
    with pytest.raises(
        DataError, match=r"its labels number the 12 classes that the file names.*Leave --class_names out"
    ):
        opened(making.table(), class_names=["a", "b"])
    images = making.table().column("image").to_pylist()
    with pytest.raises(DataError, match="only the path"):
        opened(changed("image", [{"bytes": None, "path": "/x/n00001000_0.JPEG"}, *images[1:]]))
    with pytest.raises(DataError, match=r"no column of a label.*it has image .*, other"):
        opened(
            making.table()
            .rename_columns(["image", "other"])
            .replace_schema_metadata(None)
            .drop(["other"])
            .append_column("other", pa.array([0.5] * 60))
        )
    plain = making.table().replace_schema_metadata(None)
    assert opened(plain).class_names is None
    assert opened(plain, class_names=making.WNIDS).class_names == making.WNIDS
    damaged = making.table().replace_schema_metadata({"huggingface": "[]"})
    with pytest.raises(DataError, match="its metadata of Hugging Face cannot be read"):
        opened(damaged)


@pytest.mark.parametrize("maker", [making.make_parquet, making.make_arrow])
def test_keys_are_rows_where_paths_are_missing(maker, tmp_path):
    reader = open_reader(str(maker(tmp_path / "d", making.table(keys=False))), "train")
    stem = "train" if maker is making.make_parquet else "data"
    assert reader.keys[0].decode() == f"{stem}-00000-of-00002/000000"
    assert "keys are FILE/ROW" in reader.notes[0]


def test_damaged_tables_get_an_error(tmp_path):
    folder = making.make_parquet(tmp_path / "p")
    path = folder / "data" / "train-00001-of-00002.parquet"
    whole = path.read_bytes()
    for content in (whole[:1000], whole[:-3], b"PAR1" + bytes(500) + b"PAR1", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train-00001.*(cannot be read as Parquet|no rows)"):
            open_reader(str(folder), "train")
    path.write_bytes(whole)
    reader = open_reader(str(folder), "train")
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(DataError, match="the file is damaged or was replaced"):
        list(reader.read_units([np.arange(59, 60)]))
    saved = making.make_arrow(tmp_path / "a")
    path = saved / "data-00001-of-00002.arrow"
    whole = path.read_bytes()
    for size in (0, 10, 500, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"data-00001.*cannot be read as Arrow"):
            open_source(str(saved))
    with pytest.raises(DataError, match="compressed, so its images cannot be read where they lie"):
        open_source(str(making.make_arrow(tmp_path / "z", compression="zstd")))
    for state in ("[]", "{", '{"_data_files": [{"filename": "../a.arrow"}]}'):
        (saved / "state.json").write_text(state)
        with pytest.raises(DataError, match=r"state\.json"):
            open_source(str(saved))


def test_tars_of_tars_that_are_damaged(tmp_path):
    path = making.make_train_tar(tmp_path / "train.tar")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated"):
        open_source(str(path))
    inner = making.tar_bytes({"a.JPEG": jpeg(1)})
    for members, message in (
        ({"n1.tar": inner, "n2.tar": inner[:1024]}, r"n2\.tar: .*truncated"),
        ({"n1.tar": inner, "n2.tar": making.tar_bytes({})}, r"n2\.tar: a class without images"),
        ({"n1.tar": inner, "x/n1.tar": inner}, "two tars of one class, 'n1'"),
        ({"n1.tar": inner, "b.jpg": jpeg(2)}, "tars and images side by side"),
        ({"n1.tar": inner, "n2.tar": b"no tar" * 200}, "truncated"),
    ):
        write_tar(path, members)
        with pytest.raises(DataError, match=message):
            open_source(str(path))


def test_an_inner_members_size_cannot_reach_beyond_its_tar(tmp_path):
    inner = bytearray(making.tar_bytes({"a.JPEG": jpeg(1)}))
    member = tarfile.TarInfo("a.JPEG")
    member.size = len(inner) + 5000
    inner[:512] = member.tobuf()
    write_tar(tmp_path / "t.tar", {"n1.tar": bytes(inner), "n2.tar": making.tar_bytes({"b.JPEG": jpeg(2) * 20})})
    with pytest.raises(DataError, match="truncated"):
        open_source(str(tmp_path / "t.tar"))


def test_labels_are_not_ignored(tmp_path):
    csv = making.make_csv(tmp_path / "c" / "labels.csv")
    for location in (
        making.make_folder(tmp_path / "folder"),
        making.make_train_tar(tmp_path / "train.tar"),
        making.make_arrow(tmp_path / "arrow"),
        write_tar(tmp_path / "w" / "w.tar", shard_members(0, 4)),
        csv,
    ):
        with pytest.raises(ConfigError, match="leave --labels out"):
            open_source(str(location), labels=str(csv))


@pytest.fixture
def flat(tmp_path):
    for key, (_, data) in making.val_photos().items():
        making.write(tmp_path / "flat" / f"{key}.JPEG", data)
    return tmp_path / "flat"


def labelled(source):
    return {source.key(row): source.class_names[source.label(row)] for row in range(len(source))}


WANTED = {key: wnid for key, (wnid, _) in making.val_photos().items()}


def test_a_flat_folder_is_told_each_way_and_each_works(flat, tmp_path):
    with pytest.raises(
        DataError, match=r"30 images without labels.*--labels FILE.*path,label.*LOC_val_sol.*devkit_t12.tar.gz"
    ):
        open_source(str(flat))
    kit = making.make_devkit(tmp_path / "kit" / "ILSVRC2012_devkit_t12.tar.gz")
    pairs = "".join(f"{key}.JPEG,{wnid}\n" for key, wnid in WANTED.items())
    for labels in (
        kit,
        making.write(tmp_path / "labels.csv", pairs),
        making.write(tmp_path / "LOC_val_solution.csv.txt", making.solution()),
    ):
        assert labelled(open_source(str(flat), labels=str(labels))) == WANTED
    subprocess.run(["tar", "xf", kit, "-C", tmp_path], check=True)
    assert labelled(open_source(str(flat), labels=str(tmp_path / "ILSVRC2012_devkit_t12"))) == WANTED
    (tmp_path / "LOC_val_solution.csv").write_text(making.solution())
    assert labelled(open_source(str(flat))) == WANTED  # found by itself


def test_files_of_labels_must_cover_the_images(flat, tmp_path):
    lines = [f"{key}.JPEG,{wnid}" for key, wnid in WANTED.items()]
    csv = making.write(tmp_path / "labels.csv", "\n".join(lines[1:]))
    with pytest.raises(DataError, match=r"no line for 1 of the 30 images in .*: 'ILSVRC2012_val_00000001'"):
        open_source(str(flat), labels=str(csv))
    csv.write_text("\n".join([*lines, "other.JPEG,n00001000"]))
    source = open_source(str(flat), labels=str(csv))
    assert any("1 of its lines name images that are not in" in note for note in source.notes)
    kit = making.make_devkit(tmp_path / "ILSVRC2012_devkit_t12.tar.gz")
    (flat / "ILSVRC2012_val_00000030.JPEG").unlink()
    with pytest.raises(DataError, match=r"labels 30 images in the order of their names, but .* has 29"):
        open_source(str(flat), labels=str(kit))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no lines"),
        ("a.jpg\n", "line 1: found 1 cells"),
        ("a.jpg,1,2\n", "line 1: found 3 cells"),
        ("path,label\na.jpg,\n", "line 2: found 'a.jpg,', wanted a path and a label"),
        ("a.jpg,1\na.jpg,2\n", "lines 1 and 2 both name 'a.jpg'"),
        ('"a.jpg,1\n', "not readable as CSV"),
        ("a.jpg,1\0\n", "line 1: found a NUL byte"),
        (b"\xff\xfe\x00a", "not readable as CSV in UTF-8"),
        ("a.jpg,1\nmissing.jpg,2\n", "1 of its 2 images are not there: .*missing.jpg"),
        ("name,wnid\na.jpg,1\n", "line 1: 'name' is not named like an image"),
        ("../../etc/passwd,1\n", "not named like an image"),
    ],
)
def test_csv_files_that_cannot_be_used(text, message, tmp_path):
    making.write(tmp_path / "a.jpg", jpeg(1))
    path = making.write(tmp_path / "x.csv", text)
    with pytest.raises(DataError, match=message):
        open_source(str(path))


def test_csv_keys_never_lead_out_of_a_folder(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg"):
        making.write(tmp_path / name, jpeg(1))
    path = making.write(tmp_path / "lists" / "x.csv", f"../a/1.jpg,ant\n{tmp_path}/b/1.jpg,bee\n")
    assert open_source(str(path)).keys.tolist() == [b"a/1", b"b/1"]


def test_devkits_that_cannot_be_used(flat, tmp_path):
    kit = making.make_devkit(tmp_path / "kit.tar.gz")
    whole = kit.read_bytes()
    for content in (whole[:200], whole[:-30], b"", b"\x1f\x8b" + bytes(100)):
        kit.write_bytes(content)
        with pytest.raises(DataError, match=r"kit\.tar\.gz"):
            open_source(str(flat), labels=str(kit))
    table = io.BytesIO()
    scipy.io.savemat(table, {"synsets": np.zeros(3)})
    for meta, truth, message in (
        (b"no matlab", b"1\n", "meta.mat cannot be read"),
        (table.getvalue(), b"1\n", "meta.mat cannot be read"),
        (table.getvalue()[:-5], b"1\n", "meta.mat cannot be read"),
        (b"", b"-1\n", "wanted a class number in each line"),
        (b"", b"", "wanted a class number in each line"),
    ):
        with tarfile.open(kit, "w:gz") as tar:
            for name, data in (("meta.mat", meta), ("ILSVRC2012_validation_ground_truth.txt", truth)):
                member = tarfile.TarInfo(f"kit/data/{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        with pytest.raises(DataError, match=message):
            open_source(str(flat), labels=str(kit))


def test_tars_of_timms_datasets(tmp_path):
    members = {}
    for i in range(40):
        members |= {f"n0_{i}.cls": str(i % 5).encode(), f"n0_{i}.jpg": jpeg(i)}
        members |= {f"n0_{i}.json": json.dumps({"filename": f"n0_{i}.JPEG", "label": i % 5}).encode()}
    whole = open_source(str(write_tar(tmp_path / "imagenet1k-train-0000.tar", members)))
    assert dict(whole.left_out) == {".json": 40}
    described = {name: data for name, data in members.items() if not name.endswith(".cls")}
    found = open_source(str(write_tar(tmp_path / "b" / "json-0000.tar", described)))
    assert (found.keys.tolist(), found.labels.tolist()) == (whole.keys.tolist(), whole.labels.tolist())
    for text in ("{}", '{"label": "ant"}', '{"label": true}', '{"label": -1}', "[", "[" * 20000, '{"label": 1e400}'):
        write_tar(tmp_path / "b" / "json-0000.tar", {**described, "n0_7.json": text.encode()})
        with pytest.raises(DataError, match=r'n0_7.json: found no label, wanted {"label": a class index'):
            open_source(str(tmp_path / "b" / "json-0000.tar"))


def test_a_tar_of_class_folders_is_to_be_unpacked(tmp_path):
    photos = {f"train/{wnid}/{key}.JPEG": data for key, (wnid, data) in making.photos().items()}
    path = write_tar(tmp_path / "imagenet.tar", photos)
    with pytest.raises(DataError, match=r"a tar of folders of images; unpack it, tar xf '.*imagenet.tar'"):
        open_source(str(path))
    subprocess.run(["tar", "xf", path, "-C", tmp_path], check=True)
    assert labelled(open_source(str(tmp_path / "train"))) == {key: wnid for key, (wnid, _) in making.photos().items()}


def test_a_class_may_be_named_train(tmp_path):
    for name in ("bus", "train", "val"):
        making.write(tmp_path / "d" / name / "1.jpg", jpeg(1))
    assert open_source(str(tmp_path / "d")).class_names == ("bus", "train", "val")


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
