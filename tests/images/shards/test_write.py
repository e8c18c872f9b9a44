"""`pld data --shards`: any source as tar shards, whole or not at all, the same bytes through any interruption."""

import json
import tarfile

import numpy as np
import pytest
import webdataset

from pld.cli.main import _main
from pld.config import run
from pld.errors import DataError, OutputError
from pld.images import open_source
from pld.images.shards.write import write_shards
from tests.making import jpeg, shard_members
from tests.processes import tree_bytes

NUM = 61


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder in ImageNet's layout: train/CLASS/IMAGE.JPEG, val/CLASS/IMAGE.JPEG."""
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    for split, num in (("train", NUM), ("val", 24)):
        members = shard_members(0, num, split)
        for name, data in members.items():
            if name.endswith(".jpg"):
                path = tmp_path / "photos" / split / f"n{int(members[name[:-4] + '.cls']):08d}" / f"{name[:-4]}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    return tmp_path / "photos"


def shard(photos, out, split="train", samples=20):
    source = open_source(str(photos), split)
    done = []
    paths = write_shards(source, out, split, samples, done.append)
    assert sum(done) == len(source)
    return paths


def test_shards_hold_the_folders_samples_shuffled(photos, tmp_path):
    out = tmp_path / "out"
    for split in ("train", "val"):
        assert run(_main, ["data", str(photos), "--split", split, "--shards", str(out), "--shard_samples", "20"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "dataset.json",
        *(f"train-000{i}.tar" for i in range(4)),
        "val-0000.tar",
        "val-0001.tar",
    ]
    folder, shards = open_source(str(photos)), open_source(str(out))
    assert (shards.shard_sizes, shards.class_names, shards.policy) == (
        (20, 20, 20, 1),
        folder.class_names,
        folder.policy,
    )
    assert sorted(shards.keys.tolist()) == sorted(folder.keys.tolist())
    assert shards.keys.tolist() != folder.keys.tolist()
    rows = {key: row for row, key in enumerate(folder.keys.tolist())}
    for row, key in enumerate(shards.keys.tolist()):
        assert shards.labels[row] == folder.labels[rows[key]]
        assert shards.read(row) == folder.read(rows[key])
    assert len(set(shards.labels[:20].tolist())) > 6  # a shard holds most of the 12 classes


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
def test_plain_webdataset_reads_them(photos, tmp_path):
    paths = shard(photos, tmp_path / "out")
    source = open_source(str(tmp_path / "out"))
    found = {s["__key__"].encode(): int(s["cls"]) for s in webdataset.WebDataset(list(map(str, paths)), shardshuffle=0)}
    assert found == dict(zip(source.keys.tolist(), source.labels.tolist(), strict=True))


def test_a_split_whose_image_is_missing_does_not_appear_and_is_gone_on_with(photos, tmp_path):
    shard(photos, tmp_path / "undisturbed")
    source = open_source(str(photos))
    lost = photos / "train" / "n00000003" / "train-0015.JPEG"
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(DataError, match=r"train-0015.*No such file"):
        write_shards(source, tmp_path / "out", "train", 20, lambda _: None)
    assert not list((tmp_path / "out").glob("*.tar"))
    done = json.loads((tmp_path / "out" / "unfinished" / "train.json").read_text())["done"]
    assert 0 < done < NUM
    lost.write_bytes(content)
    told = []
    write_shards(source, tmp_path / "out", "train", 20, told.append)
    assert told == [done] + [1] * (NUM - done)  # it begins where it was
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "undisturbed")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    shard(photos, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_what_is_there_and_differs_is_refused(photos, tmp_path):
    shard(photos, tmp_path / "out")
    with pytest.raises(OutputError, match="has 4 shards of train already"):
        shard(photos, tmp_path / "out", samples=30)
    (photos / "train" / "n00000003" / "train-0015.JPEG").rename(photos / "train" / "n00000004" / "train-0015.JPEG")
    with pytest.raises(OutputError, match=r"hold other samples .*: 1 are not in the shards"):
        shard(photos, tmp_path / "out")
    for split in ("train", "val"):
        (photos / split / "n00000003").rename(photos / split / "other")
    with pytest.raises(OutputError, match=r"dataset.json: names other classes"):
        shard(photos, tmp_path / "out", "val")


def test_bad_input_is_named(photos, tmp_path, capsys):
    command = ["data", str(photos), "--shards", str(tmp_path / "out")]
    assert run(_main, [*command, "--shard_samples", "0"]) == 2
    assert "shard_samples = 0, wanted at least 1" in capsys.readouterr().err
    path = photos / "train" / "n00000003" / "train-0015.JPEG"
    path.rename(path.with_name("a.b.JPEG"))
    assert run(_main, command) == 2
    assert "1 keys have a dot, the first n00000003/a.b" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_names_that_repeat_keep_their_folders(photos, tmp_path):
    for label in (1, 2):
        path = photos / "train" / f"n0000000{label}" / "same.JPEG"
        path.write_bytes((photos / "train" / "n00000000" / "train-0000.JPEG").read_bytes())
    shard(photos, tmp_path / "out")
    assert {b"n00000001/same", b"n00000002/same"} < set(open_source(str(tmp_path / "out")).keys.tolist())
    described = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert np.array_equal(described["class_names"], open_source(str(photos)).class_names)


class Unlabelled:
    """A folder's images, whose labels are unknown."""

    def __init__(self, source):
        self.source, self.labels = source, None

    def __getattr__(self, name):
        return getattr(self.source, name)


def test_images_without_labels_have_no_cls(photos, tmp_path):
    reader = Unlabelled(open_source(str(photos)))
    for _ in range(2):  # written, then checked
        paths = write_shards(reader, tmp_path / "out", "train", 20, lambda _: None)
    found = {}
    for path in paths:
        with tarfile.open(path) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}
    assert found == {f"{reader.key(row)}.jpg": reader.read(row) for row in range(NUM)}
    with tarfile.open(paths[0], "w"):
        pass
    with pytest.raises(DataError, match=f"{paths[0]}: an empty shard"):
        write_shards(reader, tmp_path / "out", "train", 20, lambda _: None)


@pytest.mark.parametrize("finished", [True, False])
def test_one_splits_description_never_speaks_of_another(tmp_path, finished):
    """Training labels that are numbers, in the order zebra, cat, ant; validation labels that are names."""
    for split in ("train", "val"):
        for number, name in enumerate(("zebra", "cat", "ant")):
            path = tmp_path / split / f"{name}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(jpeg(number))
            with (tmp_path / f"{split}.csv").open("a") as file:
                file.write(f"{split}/{name}.jpg,{number if split == 'train' else name}\n")
    train, out = ["data", str(tmp_path / "train.csv")], tmp_path / "out"
    if finished:
        assert run(_main, [*train, "--shards", str(out)]) == 0
    else:
        (out / "unfinished").mkdir(parents=True)
        (out / "unfinished" / "train-0000.tar").write_bytes(b"")
    val = ["data", str(tmp_path / "val.csv"), "--split", "val", "--shards", str(out)]
    assert run(_main, val) == 2
    assert not (out / "dataset.json").exists()
    (tmp_path / "names").write_text("zebra\ncat\nant\n")
    names = ["--class_names", str(tmp_path / "names")]
    assert run(_main, [*train, "--shards", str(tmp_path / "again"), *names]) == 0
    assert run(_main, [*val[:-1], str(tmp_path / "again"), *names]) == 0
    for split in ("train", "val"):
        source = open_source(str(tmp_path / "again"), split)
        assert {source.key(row).rpartition("/")[2]: source.class_names[source.label(row)] for row in range(3)} == {
            "zebra": "zebra",
            "cat": "cat",
            "ant": "ant",
        }
