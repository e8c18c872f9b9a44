import os
import time
from collections import Counter
from pathlib import Path

import pytest

from pld.errors import DataError
from pld.images.decode.image import IMAGE_EXTENSIONS
from pld.images.sources.image_files import ImageFiles, format_counts, is_junk, kind_of, list_images

JUNK = ["._x.jpg", "._", "__MACOSX", ".DS_Store", "Thumbs.db", "thumbs.db", "THUMBS.DB", "desktop.ini", "Desktop.ini"]


def fill(folder, *names, content=b""):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def names_of(found: ImageFiles, folder) -> list[str]:
    return [os.path.relpath(path, folder) for path in found.files]


@pytest.mark.parametrize("name", [*JUNK, "a/._x.jpg", "__MACOSX/x.jpg", "a/__macosx/b/x.jpg", "./.ds_store"])
def test_junk(name):
    assert is_junk(name)


@pytest.mark.parametrize("name", ["x.jpg", ".x.jpg", "_x.jpg", "a._x.jpg", "MACOSX", "Thumbs.dbx", "a/b.DS_Store", ""])
def test_no_junk(name):
    assert not is_junk(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.txt", ".txt"), ("a.TXT", ".txt"), ("a.tar.gz", ".gz"), ("README", "no extension"), (".hidden", "no extension"),
     ("._a.txt", "junk"), ("a.b/README", "no extension"), ("a.\udce9", ".\\udce9"), ("a.", ".")],
)  # fmt: skip
def test_what_other_files_are_counted_as(name, kind):
    assert kind_of(name) == kind


def test_images_are_found_in_all_folders_and_sorted(tmp_path):
    images = ["b.jpg", "a.JPEG", "deep/er/c.png", "deep/d.Bmp", ".hidden/e.webp", "z.tif", "y.TIFF", "x.gif", "w.avif"]
    fill(tmp_path, *images)
    found = list_images(tmp_path)
    assert names_of(found, tmp_path) == sorted(images)
    assert found.files == sorted(found.files)
    assert not found.left_out


@pytest.mark.parametrize("extension", IMAGE_EXTENSIONS)
def test_every_extension(tmp_path, extension):
    fill(tmp_path, f"a.{extension}", f"b.{extension.upper()}", f"c.{extension}.txt", extension, f".{extension}")
    found = list_images(tmp_path)
    assert names_of(found, tmp_path) == [f"a.{extension}", f"b.{extension.upper()}"]
    assert dict(found.left_out) == {".txt": 1, "no extension": 2}


def test_paths_begin_as_the_folder_was_given(tmp_path, monkeypatch):
    fill(tmp_path / "d", "a/x.jpg")
    monkeypatch.chdir(tmp_path)
    assert list_images(Path("d")).files == ["d/a/x.jpg"]
    assert list_images(tmp_path / "d").files == [str(tmp_path / "d" / "a" / "x.jpg")]


def test_other_files_are_counted_by_extension(tmp_path):
    fill(tmp_path, "a.jpg", "a.txt", "b.TXT", "sub/c.txt", "d.json", "sub/README", "e.heic")
    assert dict(list_images(tmp_path).left_out) == {".txt": 3, ".json": 1, "no extension": 1, ".heic": 1}


def test_an_extension_that_is_not_utf8_can_be_printed(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / os.fsdecode(b"notes.\xe9")).touch()
    format_counts(list_images(tmp_path / "d").left_out).encode()


def test_junk_is_counted_and_its_folders_are_not_entered(tmp_path):
    fill(tmp_path, "a.jpg", "._a.jpg", ".DS_Store", "sub/Thumbs.db", "__MACOSX/._a.jpg", "__MACOSX/deep/b.jpg")
    found = list_images(tmp_path)
    assert names_of(found, tmp_path) == ["a.jpg"]
    assert dict(found.left_out) == {"junk": 4}


def test_links_to_folders_and_files_are_followed(tmp_path):
    fill(tmp_path / "elsewhere", "a.jpg", "sub/b.jpg")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d" / "c.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    found = names_of(list_images(tmp_path / "d"), tmp_path / "d")
    assert found == ["again/a.jpg", "again/sub/b.jpg", "c.jpg", "link/a.jpg", "link/sub/b.jpg"]


@pytest.mark.parametrize("target", [".", "..", "../..", "../../../.."])
def test_a_link_back_to_a_folder_above_is_not_followed(tmp_path, target):
    """Nor to one above the listed folder itself, in which the other classes lie."""
    fill(tmp_path / "d", "ant/sub/a.jpg", "bee/b.jpg")
    (tmp_path / "d" / "ant" / "sub" / "loop").symlink_to(target)
    assert names_of(list_images(tmp_path / "d" / "ant"), tmp_path / "d") == ["ant/sub/a.jpg"]
    assert names_of(list_images(tmp_path / "d"), tmp_path / "d") == ["ant/sub/a.jpg", "bee/b.jpg"]


def test_loops_over_several_links_end(tmp_path):
    fill(tmp_path, "d/a/a.jpg", "e/b.jpg")
    (tmp_path / "d" / "a" / "to_e").symlink_to(tmp_path / "e")
    (tmp_path / "e" / "to_a").symlink_to(tmp_path / "d" / "a")
    (tmp_path / "e" / "self").symlink_to("self")
    found = list_images(tmp_path / "d")
    assert names_of(found, tmp_path / "d") == ["a/a.jpg", "a/to_e/b.jpg"]
    assert dict(found.left_out) == {"no extension": 1}  # a link to itself leads nowhere


def test_a_class_folder_that_is_a_link_itself(tmp_path):
    fill(tmp_path / "real", "ant/a.jpg", "bee/b.jpg")
    (tmp_path / "real" / "ant" / "up").symlink_to(tmp_path / "real")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "ant").symlink_to(tmp_path / "real" / "ant")
    assert names_of(list_images(tmp_path / "d" / "ant"), tmp_path / "d") == ["ant/a.jpg"]


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"sub-\xff/x.jpg", b"deep/\xc3\x28/x.PNG"])
def test_names_that_are_not_utf8_are_refused(tmp_path, name):
    fill(tmp_path / "d", os.fsdecode(name))
    with pytest.raises(DataError, match=r"is not UTF-8.*rename it") as caught:
        list_images(tmp_path / "d")
    assert repr(name)[2:-1] in str(caught.value)
    str(caught.value).encode()


def test_other_scripts_are_good(tmp_path):
    names = ["café.jpg", "カメラ.jpg", "🐜/x.jpg"]
    fill(tmp_path, *names)
    assert names_of(list_images(tmp_path), tmp_path) == sorted(names)


@pytest.mark.parametrize("target", ["gone.jpg", "/nowhere/at/all.jpg"])
def test_a_link_to_an_image_that_is_gone_is_named(tmp_path, target):
    (tmp_path / "x.jpg").symlink_to(target)
    with pytest.raises(DataError, match=r"x\.jpg: named like an image, but a link to a missing file"):
        list_images(tmp_path)


def test_what_would_be_waited_for_for_ever_is_named(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(DataError, match=r"x\.jpg: named like an image, but not a file"):
        list_images(tmp_path)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    with pytest.raises(DataError, match="gone: No such file or directory; the folder cannot be listed"):
        list_images(tmp_path / "gone")
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0)
        with pytest.raises(DataError, match="closed: Permission denied"):
            list_images(tmp_path)


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    fill(tmp_path, "x.jpg/a.jpg")
    assert names_of(list_images(tmp_path), tmp_path) == ["x.jpg/a.jpg"]


def test_how_left_out_files_are_told():
    assert format_counts({".txt": 12, ".json": 3, "junk": 4}) == "12 .txt, 4 junk, 3 .json"
    assert format_counts({".txt": 12_000}) == "12,000 .txt"
    assert format_counts({}) == ""
    many = Counter({f".{i:04d}": 1 for i in range(100)}) + Counter({".txt": 5})
    assert format_counts(many) == "5 .txt, " + ", ".join(f"1 .{i:04d}" for i in range(7)) + ", 93 others"
