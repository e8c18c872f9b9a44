import dataclasses
import sys

import pytest

from pld.cli.main import main
from pld.errors import DataError
from pld.images import check as check_images
from pld.images import open_source
from pld.images.check import find_broken_images
from tests.making import jpeg, shard_members, write_tar
from tests.remote.faults import put

BROKEN = {
    "empty": (b"", "cannot be decoded: empty file"),
    "page": (b"<html><body>Not found", "cannot be decoded: text, no image: begins with '<html><body>Not found'"),
    "cut": (jpeg(0, (160, 48))[:-900], "cannot be decoded: JPEG cut after "),
    "zeros": (bytes(4000), "cannot be decoded: all zeros"),
}


@pytest.fixture
def data(monkeypatch, capsys):
    """`pld data ...`: its exit status and the lines that it prints."""

    def call(*arguments) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["pld", "data", *map(str, arguments)])
        try:
            status = main()
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out.splitlines() or captured.err.splitlines()

    return call


def with_broken(names=tuple(BROKEN), num=30) -> dict[str, bytes]:
    members = shard_members(0, num)
    for name in names:
        members |= {f"{name}.jpg": BROKEN[name][0], f"{name}.cls": b"3"}
    return members


@pytest.mark.parametrize("names", [("empty",), ("page", "cut"), tuple(BROKEN)])
def test_broken_images_are_named_with_file_and_reason(tmp_path, data, names):
    tar = write_tar(tmp_path / "train-0000.tar", with_broken(names))
    status, lines = data(tmp_path, "--decode")
    assert status == 1
    told = [line for line in lines if "cannot be decoded: " in line]
    assert len(told) == len(names)
    for line, name in zip(told, names, strict=True):
        assert line.startswith(f"{name}: {tar}: {BROKEN[name][1]}")
    assert lines[-1] == f"{len(names)} of {30 + len(names)} images cannot be decoded"


def test_good_images_are_counted(tmp_path, data):
    write_tar(tmp_path / "train-0000.tar", shard_members(0, 30))
    write_tar(tmp_path / "val-0000.tar", with_broken(("empty",), 5))
    status, lines = data(tmp_path, "--decode")
    assert (status, lines[-1]) == (0, "all 30 images decode")
    status, lines = data(tmp_path, "--decode", "--split", "val")
    assert (status, lines[-1]) == (1, "1 of 6 images cannot be decoded")
    assert data(tmp_path)[0] == 0  # that there are broken ones is not looked for unasked


@pytest.fixture
def folder(tmp_path):
    """Class folders with what lies about in them."""
    for i in range(12):
        path = tmp_path / "photos" / "train" / f"class{i % 3}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(i))
    for name in ("class0/a.txt", "class1/b.txt", "class1/c.json", "class2/._5.jpg"):
        (tmp_path / "photos" / "train" / name).write_bytes(b"")
    return tmp_path / "photos"


def test_a_folders_broken_and_lost_images(folder, data, monkeypatch):
    (folder / "train" / "class1" / "4.jpg").write_bytes(jpeg(4)[:-2])
    (folder / "train" / "class2" / "8.jpg").write_bytes(b"")
    status, lines = data(folder, "--decode")
    assert status == 1
    source = open_source(str(folder))
    keys = [source.key(source.files.index(f"{folder}/train/{name}.jpg")) for name in ("class1/4", "class2/8")]
    assert [line.partition(": ")[0] for line in lines[-3:-1]] == keys
    assert f": {folder}/train/class2/8.jpg: cannot be decoded: empty file" in lines[-2]
    (folder / "train" / "class0" / "3.jpg").unlink()
    found = dict(find_broken_images(source, 2, lambda: None))
    assert "No such file or directory" in found.values()
    assert len(found) == 3


def test_what_is_left_out_is_told(folder, data):
    status, lines = data(folder)
    assert status == 0
    assert "  left out 2 .txt, 1 .json, 1 junk" in lines
    status, lines = data(folder, "--shards", folder.parent / "out", "--decode")
    assert status == 0
    assert "  left out 2 .txt, 1 .json, 1 junk" in lines
    assert lines[-1] == "all 12 images decode"
    assert not any("left out" in line for line in data(folder.parent / "out")[1])


def test_notes_are_told(tmp_path, data, monkeypatch):
    write_tar(tmp_path / "train-0000.tar", {**shard_members(0, 3), "x.txt": b""})
    source = dataclasses.replace(open_source(str(tmp_path)), notes=("one thing", "another thing"))
    monkeypatch.setattr("pld.cli.data.open_reader", lambda *_, **__: source)
    status, lines = data(tmp_path)
    assert status == 0
    assert lines[-3:] == ["  left out 1 .txt", "  one thing", "  another thing"]


def test_images_behind_a_url(tmp_path, data):
    write_tar(tmp_path / "data" / "train-0000.tar", with_broken(("zeros",)))
    put(tmp_path / "data", url := f"memory://{tmp_path.name}/data")
    status, lines = data(url, "--decode")
    assert (status, lines[-1]) == (1, "1 of 31 images cannot be decoded")


def test_a_place_that_does_not_answer_is_no_broken_image(tmp_path, monkeypatch):
    write_tar(tmp_path / "data" / "train-0000.tar", shard_members(0, 5))
    put(tmp_path / "data", url := f"memory://{tmp_path.name}/data")
    source = open_source(url)

    def read(*_):
        raise DataError("no answer")

    monkeypatch.setattr(type(source.remote.place), "read", read)
    with pytest.raises(DataError, match="no answer"):
        list(find_broken_images(source, 2, lambda: None))


def test_few_images_are_begun_ahead(tmp_path, monkeypatch):
    members = {f"{i}.jpg": b"" if i % 100 == 7 else jpeg(0, (8, 8)) for i in range(600)}
    tar = write_tar(tmp_path / "t.tar", members | {f"{i}.cls": b"0" for i in range(600)})
    source, begun, done, ahead_of_done = open_source(str(tar)), [], [], []
    map_ahead = check_images.map_ahead

    def counted(pool, function, items, *, ahead):
        def begin():
            for item in items:
                begun.append(item)
                ahead_of_done.append(len(begun) - len(done))
                yield item

        return map_ahead(pool, function, begin(), ahead=ahead)

    monkeypatch.setattr(check_images, "map_ahead", counted)
    assert [row for row, _ in find_broken_images(source, 3, lambda: done.append(1))] == list(range(7, 600, 100))
    assert len(begun) == len(done) == 600
    assert max(ahead_of_done) <= 14
    begun.clear()
    found = find_broken_images(source, 3, lambda: None)
    assert next(found)[0] == 7
    found.close()  # who asks for no more ends it
    assert len(begun) <= 7 + 14
