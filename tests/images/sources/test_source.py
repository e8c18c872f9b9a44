import json
import pickle
import resource
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pld.errors import ConfigError, DataError, UndecodableImageError
from pld.images import open_source
from pld.images.dataset import read_image
from pld.images.decode.image import decode_image
from pld.images.sources.keys import match_keys
from pld.images.sources.source import _open_file, forget_open_files
from pld.views import Fixed
from tests.making import jpeg, make_dataset, shard_members, write_tar


def as_folder(root, members):
    """The same samples as an image folder: class folders named so that they sort as the labels do."""
    for name, data in members.items():
        if name.endswith(".jpg"):
            label = int(members[name[:-4] + ".cls"])
            path = root / f"n{label:08d}" / name.replace(".jpg", ".JPEG")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return root


def test_a_tar_and_a_folder_hold_the_same_samples(tmp_path):
    members = shard_members(0, 30)
    tar = open_source(str(write_tar(tmp_path / "tars" / "a.tar", members)))
    folder = open_source(str(as_folder(tmp_path / "folder", members)))
    assert folder.class_names == tuple(f"n{i:08d}" for i in range(12))
    for row, other in enumerate(match_keys(folder.keys, tar.keys).tolist()):
        assert folder.key(row).endswith(f"/{tar.key(other)}")
        assert tar.labels[other] == folder.labels[row]
        assert tar.read(other) == folder.read(row)
        assert torch.equal(read_image(tar, other), read_image(folder, row))


def test_shards_by_split_by_pattern_and_by_folder(tmp_path):
    make_dataset(tmp_path / "d")
    train = open_source(str(tmp_path / "d"))
    assert [shard.name for shard in train.shards] == ["train-0000", "train-0001", "train-0002"]
    assert train.shard_sizes == (24, 17, 30)
    assert len(open_source(str(tmp_path / "d"), "val")) == 13
    pattern = open_source(str(tmp_path / "d" / "train-{0000..0002}.tar"), "whatever")
    assert np.array_equal(pattern.keys, train.keys)
    for row in (0, 23, 24, 70):
        assert train.read(row) == jpeg(row, (36 + row % 7, 40 + row % 11))
        assert train.labels[row] == row % 12
    with pytest.raises(DataError, match=r"no split 'test'.*found train, val"):
        open_source(str(tmp_path / "d"), "test")


def test_an_imagenet_layout_has_its_splits(tmp_path):
    as_folder(tmp_path / "in1k" / "train", shard_members(0, 24))
    as_folder(tmp_path / "in1k" / "val", shard_members(0, 12, "val"))
    assert len(open_source(str(tmp_path / "in1k"))) == 24
    assert len(open_source(str(tmp_path / "in1k"), "val")) == 12
    assert len(open_source(str(tmp_path / "in1k" / "val"))) == 12
    with pytest.raises(DataError, match="no split 'test'"):
        open_source(str(tmp_path / "in1k"), "test")


def test_keys_are_paths_whatever_else_there_is(tmp_path):
    image = {"jpg": jpeg(0), "cls": b"1"}
    paths = ("a/one", "b/one", "b/two", "three")
    tar = write_tar(tmp_path / "t.tar", {f"{path}.{ext}": data for path in paths for ext, data in image.items()})
    assert open_source(str(tar)).keys.tolist() == [b"a/one", b"b/one", b"b/two", b"three"]
    for path in ("x/one.jpg", "y/one.png", "y/two.JPEG"):
        (tmp_path / "f" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / path).write_bytes(jpeg(0))
    assert open_source(str(tmp_path / "f")).keys.tolist() == [b"x/one", b"y/one", b"y/two"]


def test_the_index_is_kept_and_remade_when_the_shard_changes(tmp_path, cache_folder, monkeypatch):
    tar = write_tar(tmp_path / "t.tar", shard_members(0, 5))
    first = open_source(str(tar))
    assert len(list((cache_folder / "index").iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)  # would fail if the tar were read again
        assert np.array_equal(open_source(str(tar)).offsets, first.offsets)
    write_tar(tar, shard_members(5, 6))
    assert len(open_source(str(tar))) == 6
    for num_bytes in (100, 0):
        for kept in (cache_folder / "index").iterdir():
            kept.write_bytes(kept.read_bytes()[:num_bytes])  # a full disk cut it short
        assert len(open_source(str(tar))) == 6
    assert all(kept.suffix == ".npz" for kept in (cache_folder / "index").iterdir())


def test_a_cache_folder_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "file"))
    assert len(open_source(str(write_tar(tmp_path / "t.tar", shard_members(0, 5))))) == 5


def test_a_source_travels_to_other_processes_and_threads(tmp_path):
    source = open_source(str(make_dataset(tmp_path)))
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301 - what DataLoader does with spawned workers
    assert copy.read(50) == source.read(50)


def test_a_subset_keeps_shards_and_places(tmp_path):
    source = open_source(str(make_dataset(tmp_path)))
    keep = np.arange(len(source)) % 3 != 0
    part = source.subset(keep)
    assert sum(part.shard_sizes) == len(part) == int(keep.sum())
    assert [shard.name for shard in part.shards] == [shard.name for shard in source.shards]
    assert part.read(10) == source.read(int(np.flatnonzero(keep)[10]))


def test_dataset_json_gives_class_names_and_views(tmp_path):
    make_dataset(tmp_path)
    described = {"class_names": [f"c{i}" for i in range(12)], "view_policy": {"name": "fixed", "crop_fraction": 1.0}}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    source = open_source(str(tmp_path))
    assert source.class_names == tuple(f"c{i}" for i in range(12))
    assert source.policy == Fixed(crop_fraction=1.0)
    as_folder(tmp_path / "train", shard_members(0, 12))
    for label in range(12):
        (tmp_path / "train" / f"n{label:08d}").rename(tmp_path / "train" / f"c{label}")
    assert open_source(str(tmp_path / "train")).policy == Fixed(crop_fraction=1.0)  # of a split, from its parent
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "dataset.json").write_text(json.dumps({"class_names": ["a", "b"]}))
    with pytest.raises(DataError, match=r"label 11, but .* names 2 classes"):
        open_source(str(tmp_path))
    for wrong in ("[", "[]", '{"class_names": 3}'):
        (tmp_path / "dataset.json").write_text(wrong)
        with pytest.raises(DataError, match=r"dataset\.json"):
            open_source(str(tmp_path))
    (tmp_path / "dataset.json").write_text(json.dumps({**described, "view_policy": {"name": "mixup"}}))
    with pytest.raises(ConfigError, match="mixup"):
        open_source(str(tmp_path))


GOOD = shard_members(0, 4)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "empty shard"),
        ({"readme.txt": b"hello"}, "empty shard"),
        ({**GOOD, "x.jpg": jpeg(0)}, "'x' has no label"),
        ({**GOOD, "x.cls": b"3"}, "'x' has a .cls but no image"),
        ({**GOOD, "x.jpg": jpeg(0), "x.png": jpeg(0), "x.cls": b"1"}, "two samples with one key, 'x'"),
        ({**GOOD, "x.jpg": jpeg(0), "x.cls": b"dog"}, r"x.cls: found b'dog'"),
        ({**GOOD, "x.jpg": jpeg(0), "x.cls": b"-1"}, r"x.cls: found b'-1'"),
        ({**GOOD, "x.jpg": jpeg(0), "x.cls": b"1" * 100}, r"x.cls: found b''"),
        ({**GOOD, "cat.v2.jpg": jpeg(0), "cat.v2.cls": b"1"}, r"cat\.v2\.jpg: a dot in the sample's name"),
    ],
)
def test_a_wrong_shard_is_named(tmp_path, members, message):
    with pytest.raises(DataError, match=f"t.tar: .*{message}"):
        open_source(str(write_tar(tmp_path / "t.tar", members)))


def test_one_key_in_two_shards(tmp_path):
    write_tar(tmp_path / "a.tar", GOOD)
    write_tar(tmp_path / "b.tar", {**shard_members(9, 3), **shard_members(2, 1)})
    with pytest.raises(DataError, match=r"'train-0002': in .*a.tar and in .*b.tar"):
        open_source(str(tmp_path / "{a,b}.tar"))


def test_every_cut_of_a_tar_is_noticed(tmp_path):
    """Also one between two members, where tarfile and webdataset see a shorter tar and no error."""
    whole = write_tar(tmp_path / "t.tar", shard_members(0, 3)).read_bytes()
    with tarfile.open(tmp_path / "t.tar") as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + 512  # the label's one block; zeros follow
    for keep in range(0, end + 512, 64):
        (tmp_path / "t.tar").write_bytes(whole[:keep])
        with pytest.raises(DataError, match=r"t\.tar"):
            open_source(str(tmp_path / "t.tar"))
    (tmp_path / "t.tar").write_bytes(whole[: end + 512])
    assert len(open_source(str(tmp_path / "t.tar"))) == 3


def test_links_are_refused(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        info = tarfile.TarInfo("x.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DataError, match="is a link or a device"):
        open_source(str(tmp_path / "t.tar"))


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("nowhere", "nowhere: no such file"),
        ("no/{000..003}.tar", "no/000.tar: no such file .4 of 4 shards are missing."),
        ("{a,b", "unbalanced"),
    ],
)
def test_missing_data(location, message):
    with pytest.raises(DataError, match=message):
        open_source(location)


def test_folders_without_classes_or_images(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no class folders and no tar shards"):
        open_source(str(tmp_path / "empty"))
    (tmp_path / "classes" / "dog").mkdir(parents=True)
    with pytest.raises(DataError, match="class folders without any image"):
        open_source(str(tmp_path / "classes"))


def test_an_undecodable_image_is_named(tmp_path):
    source = open_source(str(write_tar(tmp_path / "t.tar", {"good.jpg": jpeg(1), "good.cls": b"0",
                                                              "bad.jpg": jpeg(1)[:300], "bad.cls": b"0"})))  # fmt: skip
    assert torch.equal(read_image(source, 0), decode_image(jpeg(1)))
    with pytest.raises(UndecodableImageError, match=r"t.tar: sample bad: cannot be decoded"):
        read_image(source, 1)


def test_a_shard_that_shrinks_under_a_run_is_noticed(tmp_path):
    tar = write_tar(tmp_path / "t.tar", shard_members(0, 3))
    source = open_source(str(tar))
    with tar.open("r+b") as file:
        file.truncate(2000)
    with pytest.raises(DataError, match="the file changed since it was indexed") as caught:
        read_image(source, 2)
    assert not isinstance(caught.value, UndecodableImageError)  # which a cache that skips bad images would skip


def test_links_to_folders_are_followed(tmp_path):
    as_folder(tmp_path / "elsewhere", shard_members(0, 24))
    (tmp_path / "d").mkdir()
    for folder in (tmp_path / "elsewhere").iterdir():
        (tmp_path / "d" / folder.name).symlink_to(folder)
    assert len(open_source(str(tmp_path / "d"))) == 24


def test_few_files_stay_open_where_few_may(tmp_path):
    """A quarter of what the process may have."""
    paths = [tmp_path / f"{number}.bin" for number in range(40)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    forget_open_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 20, before[1]))
    try:
        read = [_open_file(str(path)).read(0, 1)[0] for path in paths]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert read == list(range(40))
