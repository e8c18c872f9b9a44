import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile

import numpy as np
import pytest
from PIL import Image

from pld.errors import DataError
from pld.images import open_source
from pld.images.dataset import read_image
from pld.images.decode.image import IMAGE_EXTENSIONS
from pld.images.sources import tars
from pld.images.sources.tar_index import read_tar
from pld.images.sources.tar_members import image_extension
from tests.making import encoded, jpeg, shard_members, with_pillow, write_tar
from tests.remote.faults import put

GOOD = shard_members(0, 3)


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


def good_tar_and(path, *members, form=tarfile.GNU_FORMAT):
    """Three samples, then members given as (name, content, fields of TarInfo)."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in GOOD.items():
            add(tar, name, content)
        for name, content, fields in members:
            add(tar, name, content, **fields)
    return path


# What is no sample.


@pytest.mark.parametrize(
    "names",
    [
        ["._train-0000.jpg", "._train-0000.cls"],
        ["__MACOSX/._train-0000.jpg", "__MACOSX/train-0000.jpg"],
        ["a/__MACOSX/b.jpg", "a/__macosx/b.cls"],
        [".DS_Store", "a/.DS_Store", "Thumbs.db", "thumbs.db", "desktop.ini"],
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_junk_is_no_sample(tmp_path, names, first):
    junk = dict.fromkeys(names, b"Mac OS X attributes")
    tar = write_tar(tmp_path / "t.tar", {**junk, **GOOD} if first else {**GOOD, **junk})
    source = open_source(str(tar))
    assert len(source) == 3
    assert dict(source.left_out) == {"junk": len(names)}


@pytest.mark.parametrize(
    ("names", "left_out"),
    [
        (["train-0000.json", "train-0001.json", "train-0000.txt"], {".json": 2, ".txt": 1}),
        (["train-0000.view.json", "train-0000.topk.npy", "train-0000.rest.npy"], {".json": 1, ".npy": 2}),
        (["README", "a/LICENSE", ".hidden", "a.b/NOTES.TXT"], {"no extension": 3, ".txt": 1}),
        (["train-0000.heic", "x.HEIC", "._x.jpg"], {".heic": 2, "junk": 1}),
    ],
)
def test_other_members_are_counted_by_extension(tmp_path, names, left_out):
    tar = write_tar(tmp_path / "t.tar", {**GOOD, **dict.fromkeys(names, b"{}")})
    for _ in range(2):  # read, then from the kept index
        source = open_source(str(tar))
        assert len(source) == 3
        assert dict(source.left_out) == left_out


def test_what_is_left_out_is_summed_over_shards(tmp_path):
    for i, names in enumerate((["a.txt", "b.txt"], ["a.txt", "c.json"], [])):
        members = {**shard_members(3 * i, 3), **dict.fromkeys(names, b"")}
        write_tar(tmp_path / f"train-{i}.tar", members)
    assert dict(open_source(str(tmp_path)).left_out) == {".txt": 3, ".json": 1}


def test_an_empty_shard_says_what_is_in_it(tmp_path):
    tar = write_tar(tmp_path / "t.tar", {"a.txt": b"", "b.txt": b"", "c.json": b""})
    with pytest.raises(DataError, match=r"t\.tar: an empty shard; found 2 \.txt, 1 \.json; wanted at least one image"):
        open_source(str(tar))


def test_folders_in_a_tar_are_not_counted(tmp_path):
    tar = good_tar_and(
        tmp_path / "t.tar", ("a", b"", {"type": tarfile.DIRTYPE}), ("b/", b"", {"type": tarfile.DIRTYPE})
    )
    assert dict(open_source(str(tar)).left_out) == {}


def test_members_of_every_format_are_read(tmp_path):
    photo = Image.open(io.BytesIO(jpeg(0)))
    members = {}
    for i, (form, extension) in enumerate(
        [("TIFF", "tif"), ("TIFF", "TIFF"), ("GIF", "gif"), ("WEBP", "webp"), ("BMP", "BMP")]
    ):
        members |= {f"{i}.{extension}": encoded(photo, form), f"{i}.cls": b"0"}
    source = open_source(str(write_tar(tmp_path / "t.tar", members)))
    for row, data in enumerate([data for name, data in members.items() if not name.endswith("cls")]):
        assert np.array_equal(read_image(source, row).permute(1, 2, 0), with_pillow(data))


# What is refused.


@pytest.mark.parametrize("where", ["image", "label", "other"])
def test_gnu_sparse_members_are_refused(tmp_path, where):
    name = {"image": "x.jpg", "label": "x.cls", "other": "x.json"}[where]
    tar = good_tar_and(tmp_path / "t.tar", (name, b"", {"type": tarfile.GNUTYPE_SPARSE}))
    with pytest.raises(DataError, match=rf"t\.tar: member '{name}' is sparse"):
        open_source(str(tar))


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.size": "1024", "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,512"},
        {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": "1024", "GNU.sparse.map": "512,512",
         "GNU.sparse.name": "x.jpg"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x.jpg", "GNU.sparse.realsize": "1024"},
    ],
)  # fmt: skip
def test_pax_sparse_members_are_refused(tmp_path, headers):
    content = b"1\n0\n512\n".ljust(512, b"\0") + bytes(512)
    tar = good_tar_and(tmp_path / "t.tar", ("x.jpg", content, {"pax_headers": headers}), form=tarfile.PAX_FORMAT)
    with pytest.raises(DataError, match=r"t\.tar: member 'x.jpg' is sparse"):
        open_source(str(tar))


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_what_tar_itself_makes_of_a_file_with_holes(tmp_path, form):
    with (tmp_path / "x.jpg").open("wb") as file:
        file.write(jpeg(0))
        file.truncate(2**20)
        file.seek(2**20 - 10)
        file.write(b"end")
    try:
        subprocess.run(["tar", f"--format={form}", "--sparse", "-cf", "t.tar", "x.jpg"], cwd=tmp_path, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no GNU tar")
    with pytest.raises(DataError, match=r"t\.tar: member 'x.jpg' is sparse"):
        open_source(str(tmp_path / "t.tar"))


@pytest.mark.parametrize("blocks", [0, 1, 20, 5000])
def test_tars_joined_by_cat_are_refused(tmp_path, blocks):
    first = write_tar(tmp_path / "a.tar", GOOD).read_bytes() + bytes(512 * blocks)
    second = write_tar(tmp_path / "b.tar", shard_members(3, 2)).read_bytes()
    (tmp_path / "t.tar").write_bytes(first + second)
    with pytest.raises(DataError, match=rf"t\.tar: another tar begins at byte {len(first):,}.*tar --concatenate"):
        open_source(str(tmp_path / "t.tar"))


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_joined_tars_of_every_form(tmp_path, form):
    good_tar_and(tmp_path / "a.tar", form=form)
    (tmp_path / "t.tar").write_bytes(2 * (tmp_path / "a.tar").read_bytes())
    with pytest.raises(DataError, match=r"t\.tar: another tar begins at byte"):
        open_source(str(tmp_path / "t.tar"))


@pytest.mark.parametrize("extra", [b"x", bytes(700) + b"x", b"not a tar\n" * 100, bytes(2**20) + b"\1" + bytes(600)])
def test_other_bytes_behind_the_end_are_refused(tmp_path, extra):
    tar = write_tar(tmp_path / "t.tar", GOOD)
    first = len(tar.read_bytes()) + len(extra) - len(extra.lstrip(b"\0"))
    tar.write_bytes(tar.read_bytes() + extra)
    with pytest.raises(DataError, match=rf"t\.tar: a nonzero byte after the tar's end, byte {first:,}"):
        open_source(str(tar))


@pytest.mark.parametrize("num_zeros", [1, 512, 100_000])
def test_zeros_behind_the_end_are_none_of_ours(tmp_path, num_zeros):
    tar = write_tar(tmp_path / "t.tar", GOOD)
    tar.write_bytes(tar.read_bytes() + bytes(num_zeros))
    assert len(open_source(str(tar))) == 3


@pytest.mark.parametrize(
    ("compress", "name", "unpack"),
    [
        (gzip.compress, "gzip", "gunzip"),
        (bz2.compress, "bzip2", "bunzip2"),
        (lzma.compress, "xz", "unxz"),
        (lambda data: b"\x28\xb5\x2f\xfd" + data[:2000], "zstd", "unzstd"),
    ],
)
@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz"])
def test_compressed_tars_are_refused(tmp_path, compress, name, unpack, suffix):
    data = write_tar(tmp_path / "plain.tar", GOOD).read_bytes()
    (tmp_path / f"t.{suffix}").write_bytes(compress(data))
    with pytest.raises(DataError, match=rf"t\.{suffix}: {name}-compressed; .*unpack it with {unpack}"):
        open_source(str(tmp_path / f"t.{suffix}"))


def test_a_name_that_begins_as_a_compressed_file_does(tmp_path):
    tar = write_tar(tmp_path / "t.tar", {"BZh9.jpg": jpeg(0), "BZh9.cls": b"1"})
    assert open_source(str(tar)).keys.tolist() == [b"BZh9"]


@pytest.mark.parametrize("name", ["caf\udce9.jpg", "caf\udce9/x.jpg", "x\udcff.cls", "notes-\udce9.txt"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_names_that_are_not_utf8_are_refused(tmp_path, name, form):
    tar = good_tar_and(tmp_path / "t.tar", (name, b"1", {}), form=form)
    with pytest.raises(DataError, match=r"t\.tar: member b'.*\\x(e9|ff).*': its name is not UTF-8.*rename"):
        open_source(str(tar))


def test_names_in_other_scripts_are_good(tmp_path):
    members = {f"{name}.{extension}": content for name in ("café", "カメラ", "🐜") for extension, content in
               (("jpg", jpeg(0)), ("cls", b"1"))}  # fmt: skip
    assert open_source(str(write_tar(tmp_path / "t.tar", members))).key(1) == "カメラ"


@pytest.mark.parametrize("label", [2**63, 10**19, 10**31])
def test_labels_beyond_64_bits_are_refused(tmp_path, label):
    tar = write_tar(tmp_path / "t.tar", {**GOOD, "x.jpg": jpeg(0), "x.cls": str(label).encode()})
    with pytest.raises(DataError, match=rf"t\.tar: x\.cls: found {label}, wanted a class index"):
        open_source(str(tar))


def test_the_largest_label(tmp_path):
    tar = write_tar(tmp_path / "t.tar", {"x.jpg": jpeg(0), "x.cls": str(2**63 - 1).encode()})
    assert open_source(str(tar)).labels.tolist() == [2**63 - 1]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    tar = good_tar_and(tmp_path / "t.tar", ("x.jpg", b"", {"type": kind, "linkname": "train-0000.jpg"}))
    with pytest.raises(DataError, match=r"t\.tar: member 'x.jpg' is a link or a device"):
        open_source(str(tar))


def test_a_negative_size_is_no_endless_loop(tmp_path):
    """As of CVE-2025-8194: the reader would find the same member again."""
    tar = good_tar_and(tmp_path / "t.tar", ("x.jpg", b"", {}))
    data = bytearray(tar.read_bytes())
    header = data.rindex(b"x.jpg")
    data[header + 124 : header + 136] = (256**12 - 1024).to_bytes(12, "big")
    data[header + 148 : header + 156] = b" " * 8
    data[header + 148 : header + 156] = b"%06o\0 " % sum(data[header : header + 512])
    tar.write_bytes(data)
    with pytest.raises(DataError, match=r"t\.tar: "):
        open_source(str(tar))


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
    monkeypatch.setattr(tars, "_state", lambda status: "the same")


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


@pytest.mark.parametrize(
    ("start", "extension"),
    [
        (b"\xff\xd8\xff\xe0", "jpg"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"II*\0\x08\0\0\0", "tif"),
        (b"MM\0*\0\0\0\x08", "tif"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "webp"),
        (b"RIFF\x24\0\0\0AVI LIST", "jpg"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "avif"),
        (b"\0\0\0\x2cftypavis\0\0\0\0avismsf1", "avif"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "jpg"),
        (b"BM6\0", "bmp"),
        (b"P6\n4 4\n255\n", "ppm"),
        (b"PK\x03\x04", "jpg"),
        (b"", "jpg"),
        (b"<html>", "jpg"),
    ],
)
def test_an_images_extension_is_told_by_how_it_begins(start, extension):
    # What this Pillow cannot read would be no image in the tar: it stays one that is told to be broken.
    assert image_extension(start + bytes(100)) == (extension if extension in IMAGE_EXTENSIONS else "jpg")
