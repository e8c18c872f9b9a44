"""Labels of flat images: each file of labels works, and none is ignored or half used."""

import io
import subprocess
import tarfile

import numpy as np
import pytest
import scipy.io

from pld.errors import ConfigError, DataError, NoLabelsError
from pld.images import open_source
from tests.images.sources.forms import making
from tests.making import jpeg, shard_members, write_tar


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
        assert making.labelled(open_source(str(flat), labels=str(labels))) == WANTED
    subprocess.run(["tar", "xf", kit, "-C", tmp_path], check=True)
    assert making.labelled(open_source(str(flat), labels=str(tmp_path / "ILSVRC2012_devkit_t12"))) == WANTED
    (tmp_path / "LOC_val_solution.csv").write_text(making.solution())
    assert making.labelled(open_source(str(flat))) == WANTED  # found by itself


def test_labels_that_are_numerals_are_names_where_classes_are_named_so(tmp_path):
    """Class folders 0 to 11, which sort as text: 0, 1, 10, 11, 2, ..."""
    for label in range(12):
        making.write(tmp_path / "train" / str(label) / "1.jpg", jpeg(label))
        making.write(tmp_path / "val" / f"v{label}.jpg", jpeg(label))
    csv = making.write(tmp_path / "val.csv", "".join(f"v{label}.jpg,{label}\n" for label in range(12)))
    source = open_source(str(tmp_path), "val", labels=str(csv))
    assert making.labelled(source) == {f"v{label}": str(label) for label in range(12)}
    # Without names they are numbers; with a leading zero they are names.
    flat = str(tmp_path / "val")
    numbers = open_source(flat, labels=str(csv), class_names=[f"c{label}" for label in range(12)])
    assert making.labelled(numbers) == {f"v{label}": f"c{label}" for label in range(12)}
    assert "its labels are taken for the numbers of the classes of --class_names" in numbers.notes[-1]
    padded = making.write(tmp_path / "b.csv", "".join(f"v{label}.jpg,{label:02d}\n" for label in range(12)))
    (tmp_path / "alone").mkdir()
    (tmp_path / "val").rename(tmp_path / "alone" / "images")
    source = open_source(str(tmp_path / "alone" / "images"), labels=str(padded))
    assert making.labelled(source) == {f"v{label}": f"{label:02d}" for label in range(12)}


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
    (flat / "ILSVRC2012_val_00000001.JPEG").unlink()  # the others keep their labels
    source = open_source(str(flat), labels=str(kit))
    assert making.labelled(source) == dict(list(WANTED.items())[1:-1])
    assert any("2 of the 30 images that" in note for note in source.notes)


def test_a_devkit_labels_images_by_their_numbers_alone(flat, tmp_path):
    kit = making.make_devkit(tmp_path / "kit" / "ILSVRC2012_devkit_t12.tar.gz")
    for number, path in enumerate(sorted(flat.iterdir())):
        path.rename(flat / f"{number}.jpg")  # 0, 1, 10, 11, ... in the order of text
    with pytest.raises(DataError, match=r"labels ILSVRC2012_val_00000001 to ILSVRC2012_val_00000030; .* an image '0'"):
        open_source(str(flat), labels=str(kit))
    making.write(tmp_path / "one" / "ILSVRC2012_val_00000031.JPEG", jpeg(1))
    with pytest.raises(DataError, match="an image 'ILSVRC2012_val_00000031'"):
        open_source(str(tmp_path / "one"), labels=str(kit))
    with pytest.raises(DataError, match=r"name the archive in it, --labels .*devkit_t12.tar.gz"):
        open_source(str(flat), labels=str(kit.parent))


@pytest.fixture
def two(tmp_path):
    for name in ("a", "b"):
        making.write(tmp_path / "two" / f"{name}.jpg", jpeg(1))
    return tmp_path / "two"


@pytest.mark.parametrize("use", ["labels", "csv"])
def test_labels_that_are_half_numbers(use, two):
    def read(first, second, **options):
        csv = making.write(two / "x.csv", f"path,label\na.jpg,{first}\nb.jpg,{second}\n")
        if use == "csv":
            return open_source(str(csv), **options)
        return open_source(str(two), labels=str(csv), **options)

    assert read("0.0", "10.0").labels.tolist() == [0, 10]
    assert read("007", "10").class_names == ("007", "10")
    assert making.labelled(read("cat", "7", class_names=["7", "cat"])) == {"a": "cat", "b": "7"}
    assert making.labelled(read("2.0", "1.0", class_names=["2.0", "1.0"])) == {"a": "2.0", "b": "1.0"}
    for negative in ("-1", "-1.0"):
        with pytest.raises(NoLabelsError, match="1 of 2 images have a negative label, the first in line 3"):
            read("0", negative)
        if use == "csv":  # the error names --unlabelled
            assert open_source(str(two / "x.csv"), unlabelled=True).labels is None
    for number, word in (("1", "cat"), ("1.0", "nan"), ("1", "1.5"), ("-1", "cat")):
        with pytest.raises(DataError, match=f"line 2 has the label '{number}', a number, and line 3 '{word}', a word"):
            read(number, word)


def test_a_csv_with_splits_gives_the_one_that_is_asked_for(two):
    csv = making.write(two / "x.csv", "path,label,split\na.jpg,ant,training\nb.jpg,bee,val\n")
    assert making.labelled(open_source(str(csv))) == {"a": "ant"}
    assert making.labelled(open_source(str(csv), "validation")) == {"b": "bee"}
    assert open_source(str(csv), "val", unlabelled=True).keys.tolist() == [b"b"]
    with pytest.raises(DataError, match="no split 'test' in its column split; found 'training', 'val'"):
        open_source(str(csv), "test")
    with pytest.raises(DataError, match=r"its column split has 'training', 'val' for the images in .*--split"):
        open_source(str(two), labels=str(csv))
    making.write(csv, "path,label,split\na.jpg,ant,\n")
    with pytest.raises(DataError, match="line 2: nothing in the column split"):
        open_source(str(csv))


def test_lines_that_differ_in_their_extensions(two):
    csv = making.write(two / "x.csv", "a.jpg,cat\na.png,dog\nb.jpg,owl\n")
    assert making.labelled(open_source(str(two), labels=str(csv))) == {"a": "cat", "b": "owl"}
    for first, second in (("a.jpeg", "a.png"), ("a.jpg", "./a.jpg"), ("x/a.jpg", "y/a.jpg")):
        making.write(csv, f"{first},cat\n{second},dog\nb.jpg,owl\n")
        with pytest.raises(DataError, match="lines 1 and 2 could both be the image 'a'"):
            open_source(str(two), labels=str(csv))


def test_tiny_imagenets_validation_images(tmp_path):
    images = making.photos()
    for key, (wnid, data) in images.items():
        making.write(tmp_path / "train" / wnid / f"{key}.JPEG", data)
    lines = []
    for i, wnid in enumerate(making.WNIDS):
        making.write(tmp_path / "val" / "images" / f"val_{i}.JPEG", jpeg(i))
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    labels = making.write(tmp_path / "val" / "val_annotations.txt", "".join(lines))
    with pytest.raises(DataError) as error:
        open_source(str(tmp_path), "val")
    folder = tmp_path / "val" / "images"
    assert f"pld data '{folder}' --labels {labels} --shards OUT --split val" in str(error.value)
    source = open_source(str(folder), "val", labels=str(labels))
    assert making.labelled(source) == {f"val_{i}": wnid for i, wnid in enumerate(making.WNIDS)}


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
