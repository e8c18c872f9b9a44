"""Tars of tars that are damaged or hostile, and tars of timm's datasets."""

import json
import subprocess
import tarfile

import pytest

from pld.errors import DataError
from pld.images import open_source
from tests.images.sources.forms import making
from tests.making import jpeg, write_tar


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
        with pytest.raises(DataError, match=r"'n0_7' has no label \(1 of 40 have none\); wanted .*n0_7.json with"):
            open_source(str(tmp_path / "b" / "json-0000.tar"))


def test_a_tar_of_class_folders_is_to_be_unpacked(tmp_path):
    photos = {f"train/{wnid}/{key}.JPEG": data for key, (wnid, data) in making.photos().items()}
    path = write_tar(tmp_path / "imagenet.tar", photos)
    with pytest.raises(DataError, match=r"a tar of folders of images; unpack it, tar xf '.*imagenet.tar'"):
        open_source(str(path))
    subprocess.run(["tar", "xf", path, "-C", tmp_path], check=True)
    assert making.labelled(open_source(str(tmp_path / "train"))) == {
        key: wnid for key, (wnid, _) in making.photos().items()
    }


def test_a_class_may_be_named_train(tmp_path):
    for name in ("bus", "train", "val"):
        making.write(tmp_path / "d" / name / "1.jpg", jpeg(1))
    assert open_source(str(tmp_path / "d")).class_names == ("bus", "train", "val")


@pytest.mark.parametrize("maker", [making.make_train_tar, making.make_val_tar])
def test_a_readme_in_front_changes_nothing(maker, tmp_path):
    making.make_devkit(tmp_path / "ILSVRC2012_devkit_t12.tar.gz")
    path = maker(tmp_path / "images.tar")
    wanted = open_source(str(path))
    (tmp_path / "README.txt").write_text("about these images")
    (tmp_path / "whole").mkdir()
    subprocess.run(["tar", "xf", path, "-C", tmp_path / "whole"], check=True)
    names = sorted(file.name for file in (tmp_path / "whole").iterdir())
    subprocess.run(["tar", "cf", path, "-C", tmp_path, "README.txt", "-C", tmp_path / "whole", *names], check=True)
    found = open_source(str(path))
    assert making.labelled(found) == making.labelled(wanted)
    assert dict(found.left_out) == {".txt": 1}


def test_tars_joined_by_cat_lose_nothing(tmp_path):
    """A tar of tars, an inner one, and a flat one: readers see only the first of two."""
    other = making.tar_bytes({"n00009999.tar": making.tar_bytes({"n00009999_1.JPEG": jpeg(1)})})
    for name, first, second in (
        ("outer", making.make_train_tar(tmp_path / "t.tar").read_bytes(), other),
        ("flat", making.make_val_tar(tmp_path / "v.tar").read_bytes(), making.tar_bytes({"z.JPEG": jpeg(1)})),
    ):
        path = making.write(tmp_path / f"{name}.tar", first + second)
        with pytest.raises(DataError, match=f"another tar begins at byte {len(first):,}, after the end"):
            open_source(str(path))
    inner = making.tar_bytes({"n00001000_1.JPEG": jpeg(1)})
    path = write_tar(tmp_path / "inner.tar", {"n00001000.tar": inner + inner, "n00001007.tar": inner})
    with pytest.raises(DataError, match=r"inner.tar: n00001000.tar: another tar begins"):
        open_source(str(path))


@pytest.mark.parametrize("split", [".", "train"])
def test_class_tars_that_were_unpacked_from_their_archive(split, tmp_path):
    archive = making.make_train_tar(tmp_path / "t" / "train.tar")
    folder = tmp_path / "unpacked" / split
    folder.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    wanted, found = open_source(str(archive)), open_source(str(tmp_path / "unpacked"))
    assert making.labelled(found) == making.labelled(wanted)
    assert found.class_names == wanted.class_names
    for row in (0, 17, len(found) - 1):
        assert found.read(row) == making.photos()[found.key(row)][1]
    names = tuple(reversed(making.WNIDS))
    assert making.labelled(open_source(str(tmp_path / "unpacked"), class_names=names)) == making.labelled(wanted)
    assert open_source(str(tmp_path / "unpacked"), unlabelled=True).labels is None
    write_tar(folder / "n00009999.tar", {"a.jpg": jpeg(1), "a.cls": b"1"})
    with pytest.raises(DataError, match=r"n00009999.tar: wanted images alone, as in"):
        open_source(str(tmp_path / "unpacked"))
