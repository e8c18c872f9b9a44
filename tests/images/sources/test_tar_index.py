"""The index that is kept of a tar: remade if the tar is another one or the index is damaged."""

import os
import tarfile

import numpy as np
import pytest

from pld.images import open_source
from pld.images.sources import tars
from pld.images.sources.tar_index import read_tar
from tests.making import shard_members, write_tar
from tests.remote.faults import put

GOOD = shard_members(0, 3)


# The kept index.


def rewrite(tar, members) -> None:
    """Other members in the same file, of the same size and time of change."""
    before = tar.stat()
    write_tar(tar, members)
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (tar.stat().st_size, tar.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def relabelled(members, label: bytes, rows) -> dict[str, bytes]:
    changed = [name for i, name in enumerate(name for name in members if name.endswith(".cls")) if i in rows]
    return {name: label if name in changed else content for name, content in members.items()}


@pytest.mark.parametrize("rows", [(0,), (17,), (39,), range(40)])
def test_other_content_of_the_same_size_and_time_is_noticed(tmp_path, rows):
    members = relabelled(shard_members(0, 40), b"3", range(40))
    tar = write_tar(tmp_path / "t.tar", members)
    assert set(open_source(str(tar)).labels.tolist()) == {3}
    rewrite(tar, relabelled(members, b"5", rows))
    assert [i for i, label in enumerate(open_source(str(tar)).labels) if label == 5] == list(rows)


@pytest.fixture
def one_state(monkeypatch):
    """A file system that tells nothing of a file but its name, as a copied cache folder or a mount may have it."""
    monkeypatch.setattr(tars, "file_state", lambda status: "the same")


@pytest.mark.parametrize("num", [1, 7, 8, 9, 40, 301])
def test_members_tell_a_tar_where_its_state_does_not(tmp_path, cache_folder, one_state, num):
    tar = write_tar(tmp_path / "t.tar", shard_members(0, num))
    first = open_source(str(tar))
    checked = read_tar(tar).checked
    assert len(checked) == min(2 * num, 16)
    assert checked[0] == 0
    assert checked[-1] + 512 == read_tar(tar).rows["offset"][-1] + -(-read_tar(tar).rows["size"][-1] // 512) * 512 + 512
    for changed in (0, num - 1):
        rewrite(tar, relabelled(shard_members(0, num), b"9", [changed]))
        assert open_source(str(tar)).labels[changed] == 9
    write_tar(tar, shard_members(0, num))
    assert np.array_equal(open_source(str(tar)).labels, first.labels)
    assert len(list((cache_folder / "index").iterdir())) == 1


@pytest.mark.parametrize("change", ["image", "order", "shorter", "gone members"])
def test_what_else_the_members_tell(tmp_path, one_state, change):
    members = shard_members(0, 30)
    tar = write_tar(tmp_path / "t.tar", members)
    open_source(str(tar))
    if change == "image":
        members["train-0000.jpg"] = bytes(len(members["train-0000.jpg"]))
    elif change == "order":
        members = dict(reversed(members.items()))
    elif change == "shorter":
        members = shard_members(0, 29)
    else:
        members = dict(list(members.items())[2:])
    write_tar(tar, members)
    found = open_source(str(tar))
    assert np.array_equal(found.keys, [name[:-4].encode() for name in members if name.endswith(".jpg")])
    assert all(found.read(row) == members[f"{found.key(row)}.jpg"] for row in range(len(found)))


def test_a_kept_index_reads_few_bytes(tmp_path, monkeypatch):
    tar = write_tar(tmp_path / "t.tar", shard_members(0, 60))
    open_source(str(tar))
    reads = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: reads.append(arguments[1]) or pread(*arguments))
    monkeypatch.setattr(tarfile, "open", None)
    assert len(open_source(str(tar))) == 60
    assert reads == [1024] * 16


@pytest.mark.parametrize("num_bytes", [0, 3, 100, 0.5, 0.9])
def test_a_damaged_index_is_made_anew(tmp_path, cache_folder, num_bytes):
    tar = write_tar(tmp_path / "t.tar", {**GOOD, "a.txt": b""})
    wanted = open_source(str(tar))
    (kept,) = (cache_folder / "index").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: int(num_bytes * len(whole)) if isinstance(num_bytes, float) else num_bytes])
    found = open_source(str(tar))
    assert np.array_equal(found.offsets, wanted.offsets)
    assert dict(found.left_out) == {".txt": 1}
    assert kept.read_bytes()[:2] == b"PK"


def test_rows_alone(tmp_path):
    tar = write_tar(tmp_path / "t.tar", {**GOOD, "a.txt": b""})
    rows = read_tar(tar).rows
    assert rows["path"].tolist() == [b"train-0000", b"train-0001", b"train-0002"]
    assert rows["label"].tolist() == [0, 1, 2]
    assert np.array_equal(rows, read_tar(tar).rows)


def test_remote_shards_say_the_same(tmp_path):
    write_tar(tmp_path / "data" / "train-0.tar", {**GOOD, "a.txt": b"", "._train-0000.jpg": b"", "b.json": b""})
    put(tmp_path / "data", url := f"memory://{tmp_path.name}/data")
    for _ in range(2):
        source = open_source(url)
        assert len(source) == 3
        assert dict(source.left_out) == {".txt": 1, "junk": 1, ".json": 1}


# What is written.
