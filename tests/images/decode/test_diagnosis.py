import io
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from pld.errors import UndecodableImageError
from pld.images.decode.diagnosis import diagnose
from pld.images.decode.image import IMAGE_EXTENSIONS, decode_image
from tests.making import encoded, with_pillow

AVIF = ["AVIF"] if "avif" in IMAGE_EXTENSIONS else []  # not in every Pillow that is good enough
HEIGHT, WIDTH = 131, 94
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
CUTS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.99)


def said(data: bytes) -> str:
    """What the decoder's error says."""
    with pytest.raises(UndecodableImageError) as caught:
        decode_image(data)
    message = str(caught.value)
    assert message.startswith("cannot be decoded: ")
    assert not re.search(r"at 0x[0-9A-Fa-f]{4,}", message)
    return message.removeprefix("cannot be decoded: ")


def rows_said(data: bytes) -> int:
    found = re.match(rf"JPEG cut after (\d+) of {HEIGHT} rows", said(data))
    if found is None:
        assert said(data).startswith("JPEG cut short: its end marker is missing")
        return HEIGHT
    return int(found[1])


def rows_alike(data: bytes, whole: bytes) -> int:
    """How many rows a decoder that fills up what is missing makes as those of the whole image."""
    found, wanted = (simplejpeg.decode_jpeg(part, strict=False) for part in (data, whole))
    differ = (found != wanted).any(axis=(1, 2))
    return int(differ.argmax()) if differ.any() else len(differ)


@pytest.mark.parametrize(("subsampling", "unit"), [(0, 8), (1, 8), (2, 16)])
@pytest.mark.parametrize("cut", CUTS)
def test_the_rows_of_a_cut_jpeg_are_counted(cut, subsampling, unit):
    whole = encoded(NOISE, "JPEG", subsampling=subsampling, quality=90)
    data = whole[: int(cut * len(whole))]
    assert abs(rows_said(data) - rows_alike(data, whole)) <= unit


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("cut", CUTS)
def test_the_rows_of_grey_and_cmyk(cut, mode):
    whole = encoded(NOISE.convert(mode), "JPEG")
    assert abs(rows_said(whole[: int(cut * len(whole))]) - cut * HEIGHT) <= 16


@pytest.mark.parametrize("subsampling", [0, 2])
def test_the_rows_are_those_between_restart_markers(subsampling):
    """With a marker after each row of units, the truth can be counted in the bytes."""
    whole = encoded(NOISE, "JPEG", subsampling=subsampling, restart_marker_rows=1)
    marks = [match.end() for match in re.finditer(rb"\xff[\xd0-\xd7]", whole)]
    unit = 16 if subsampling else 8
    assert len(marks) == -(-HEIGHT // unit) - 1
    for number, mark in enumerate(marks, 1):
        for keep in (mark, mark + 1, mark + 40):
            assert abs(rows_said(whole[:keep]) - number * unit) <= unit


def test_rows_that_look_like_what_fills_up_are_counted_too():
    """Grey, black or white below: no colour tells the missing rows."""
    for colour in (0, 128, 255):
        pixels = np.array(NOISE)
        pixels[40:] = colour
        whole = encoded(Image.fromarray(pixels), "JPEG", quality=90)
        scan = whole.index(b"\xff\xda")
        data = whole[: len(whole) - (len(whole) - scan) // 40]
        assert rows_said(data) > 60


@pytest.mark.parametrize("keep", [2, 3, 20, 100, 300])
def test_a_jpeg_cut_inside_its_header(keep):
    assert said(encoded(NOISE, "JPEG")[:keep]) == "JPEG cut inside its header"


@pytest.mark.parametrize("cut", CUTS)
def test_a_progressive_jpeg_has_no_rows_to_count(cut):
    data = encoded(NOISE, "JPEG", progressive=True)
    assert said(data[: int(cut * len(data))]) == "JPEG cut short: its end is missing"


@pytest.mark.parametrize("cut", [0.4, 0.6, 0.9])
def test_zeros_in_place_of_the_rest(cut):
    """As a download that was to be of this size leaves it."""
    whole = encoded(NOISE, "JPEG")
    keep = int(cut * len(whole))
    data = whole[:keep] + bytes(len(whole) - keep)
    rows = rows_alike(whole[:keep], whole)
    found = re.match(rf"JPEG cut after (\d+) of {HEIGHT} rows; ([\d,]+) zero bytes follow", said(data))
    assert found
    assert abs(int(found[1]) - rows) <= 16
    assert abs(int(found[2].replace(",", "")) - (len(whole) - keep)) <= 2


def test_zeros_behind_a_whole_jpeg_are_no_damage():
    data = encoded(NOISE, "JPEG") + bytes(5000)
    assert np.array_equal(decode_image(data).permute(1, 2, 0), with_pillow(data))


@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_of_which_the_end_marker_alone_is_missing(lost):
    assert abs(rows_said(encoded(NOISE, "JPEG", subsampling=0)[:-lost]) - HEIGHT) <= 8


def test_a_jpeg_that_declares_too_much_is_not_decoded_for_its_rows():
    data = bytearray(encoded(NOISE, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    assert diagnose(bytes(data[:-100]), OSError("cut")) == "JPEG cut short: its end is missing"


@pytest.mark.parametrize("keep", [20, 100, 0.5, 0.98])
def test_a_cut_png(keep):
    data = encoded(NOISE, "PNG")
    assert (
        said(data[: int(keep * len(data)) if isinstance(keep, float) else keep]) == "PNG cut short: its end is missing"
    )


def test_a_damaged_png_that_has_its_end():
    data = bytearray(encoded(NOISE, "PNG"))
    data[len(data) // 2] ^= 0xFF
    assert said(bytes(data)).startswith("PNG: ")


@pytest.mark.parametrize(("form", "name"), [("WEBP", "WebP"), ("BMP", "BMP")])
@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
def test_formats_that_say_how_long_they_are(form, name, cut):
    data = encoded(NOISE, form)
    keep = int(cut * len(data))
    assert said(data[:keep]) == f"{name} cut after {keep:,} of {len(data):,} bytes"


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PPM", *AVIF])
@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_other_formats_are_named_when_cut(form, cut):
    data = encoded(NOISE, form)
    assert said(data[: int(cut * len(data))]).startswith(form)


def test_nothing_and_zeros():
    assert said(b"") == "empty file"
    assert said(bytes(1)).startswith("all zeros, 1 of them")
    assert said(bytes(120_000)).startswith("all zeros, 120,000 of them")


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"<html><head><title>404 Not Found</title>", "'<html><head><title>404 N'"),
        (b"\n<!DOCTYPE html>\n<html>", "'<!DOCTYPE html>\\n<html>'"),
        (b'{"error": "rate limit exceeded"}', '\'{"error": "rate limit ex\''),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "\"<?xml version='1.0'?><Er\""),
        ("\ufeffnicht gefunden, schöne Grüße".encode(), "'nicht gefunden, schöne G'"),
        (("x" + "ü" * 100).encode(), "'xü"),  # cut inside a character
        (b"../n02110341/n02110341_1.JPEG", "'../n02110341/n02110341_1'"),
    ],
)
def test_text_is_shown(data, shown):
    assert said(data).startswith(f"text, no image: begins with {shown}")


def test_a_git_lfs_pointer():
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
    assert said(pointer).startswith("a Git LFS pointer")
    assert "git lfs pull" in said(pointer)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"%PDF-1.7\n", "a PDF file"),
        (b"PK\x03\x04\x14\0", "a ZIP archive"),
        (b"\x1f\x8b\x08\0", "gzip-compressed"),
        (b"BZh91AY&SY", "bzip2-compressed"),
        (b"\xfd7zXZ\0\0", "xz-compressed"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd-compressed"),
        (b"\0\0\0\x18ftypheic", "a HEIC file, which is not read; convert it"),
        (b"\0\0\0\x18ftypmif1", "a HEIC file, which is not read; convert it"),
        (b"\0\0\0\x18ftypisom", "a video"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"\0\0\0\x14ftypqt  ", "a video"),
        (b"\x1a\x45\xdf\xa3\x01", "a video"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL file"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 file"),
        (b"8BPS\0\x01", "a Photoshop file"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"a.jpg" + bytes(252) + b"ustar\x00", "a tar"),
    ],
)
def test_other_files_are_named(start, words):
    assert said(start + bytes(range(256))).startswith(words)


def test_the_decoders_words_without_an_address():
    error = UnidentifiedImageError(f"cannot identify image file {io.BytesIO()!r}")
    assert "at 0x" in str(error)
    assert diagnose(b"\x07\x01\xfe", error) == r"no image in a format that is read: begins with b'\x07\x01\xfe'"
    assert diagnose(b"\x07\x01\xfe", ValueError(f"odd {io.BytesIO()!r}")) == "no known format: odd the file"
    assert diagnose(encoded(NOISE, "JPEG"), ValueError("\n")) == "JPEG: ValueError"
    assert "JPEG" in diagnose(encoded(NOISE, "JPEG"), None)


FORMS = ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", *AVIF)
SMALL = NOISE.crop((0, 0, 33, 41))
FILES = [encoded(SMALL, form) for form in FORMS] + [
    encoded(SMALL, "JPEG", progressive=True),
    encoded(SMALL.convert("L"), "JPEG", restart_marker_rows=1),
    encoded(SMALL.convert("CMYK"), "JPEG"),
]


def check(data: bytes) -> None:
    for error in (None, OSError(f"in {io.BytesIO()!r}")):
        words = diagnose(data, error)
        assert words
        assert not re.search(r"at 0x[0-9A-Fa-f]{4,}", words)
        assert "\n" not in words
        assert len(words) < 300


STARTS = st.sampled_from(
    [b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"\0\0\0\x18ftyp"]
)


@settings(deadline=None)
@given(STARTS, st.binary(max_size=400))
def test_no_bytes_break_it(start, data):
    check(start + data)


@given(
    st.sampled_from(FILES), st.floats(0, 1), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4)
)
def test_no_cut_or_damage_breaks_it(data, cut, damage):
    damaged = bytearray(data[: int(cut * len(data))])
    for place, value in damage:
        if damaged:
            damaged[int(place * len(damaged))] = value
    check(bytes(damaged))


def test_it_is_as_quiet_under_warnings_as_errors():
    """Of a bomb Pillow warns; that is no business of who asks what is wrong."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 9_800, 9_800, 8, 2, 0, 0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert said(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)) == "PNG cut short: its end is missing"
