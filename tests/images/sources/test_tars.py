"""Members of tars that are read: what is no sample, and what is refused."""

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile

import numpy as np
import pytest
from PIL import Image

from pld.errors import DataError
from pld.images import open_source
from pld.images.dataset import read_image
from tests.making import encoded, jpeg, shard_members, with_pillow, write_tar

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
