"""What is wrong with a file that cannot be decoded, in words that tell what to do about it."""

from __future__ import annotations

import codecs
import contextlib
import io
import re
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

# ImageNet's largest photo has 32 million pixels; a bomb of a few KB can declare billions.
MAX_PIXELS = 100_000_000

# A cut image may end in a few zeros; more were never written, or are what a disk gave in place of its content.
_MANY_ZEROS = 64
_ZEROS_FOLLOW = "zero bytes follow"

_SHOWN_CHARACTERS = 24
_MAX_WORDS = 200

_CONVERT = "which is not read; convert it, e.g. to JPEG"

# How other files begin than those that are read.
_OTHER_FILES = (
    (rb"version https://git-lfs", "a Git LFS pointer in place of the image; fetch the images with 'git lfs pull'"),
    (rb"%PDF", "a PDF file, no image"),
    (rb"PK(\x03\x04|\x05\x06)", "a ZIP archive, no image"),
    (rb"\x1f\x8b", "gzip-compressed, no image; unpack it"),
    (rb"BZh\d", "bzip2-compressed, no image; unpack it"),
    (rb"\xfd7zXZ\0", "xz-compressed, no image; unpack it"),
    (rb"\x28\xb5\x2f\xfd", "zstd-compressed, no image; unpack it"),
    (rb".{257}ustar", "a tar, no image; unpack it"),
    (rb"\x93NUMPY", "a NumPy array, no image"),
    (rb"\x89HDF", "an HDF5 file, no image"),
    (rb".{4}ftyp(he[ivm][cxms]|m(if|sf)1)", f"a HEIC file, {_CONVERT}"),
    (rb".{4}ftyp", "a video (MP4 or a relative of it), no image"),
    (rb"\x1a\x45\xdf\xa3", "a video (Matroska or WebM), no image"),
    (rb"RIFF.{4}(AVI |WAVE)", "a video or sound, no image"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", f"a JPEG 2000 file, {_CONVERT}"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", f"a JPEG XL file, {_CONVERT}"),
    (rb"8BPS", f"a Photoshop file, {_CONVERT}"),
    (rb"\x76\x2f\x31\x01", f"an OpenEXR file, {_CONVERT}"),
    (rb"\0\0\x01\0", f"an ICO file, {_CONVERT}"),
)

# How the images begin that are read.
_FORMS = {
    "JPEG": rb"\xff\xd8",
    "PNG": rb"\x89PNG",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "GIF": rb"GIF8",
    "WebP": rb"RIFF.{4}WEBP",
    # The kind may come behind others in the first box, of which no sane one has 256 bytes.
    "AVIF": rb"\0\0\0.ftyp(.{4}){0,60}?avi[fs]",
    "BMP": rb"BM",
    "PPM": rb"P[1-7fFy]\s",
}
_MAY_BE_LACKING = ("TIFF", "WebP", "AVIF")

_FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
_SEQUENTIAL = (0xC0, 0xC1)
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"

_PNG = b"\x89PNG\r\n\x1a\n"


def diagnose(data: bytes, error: Exception | None) -> str:
    """What is wrong with encoded bytes, told from how they begin and end; else in the decoder's own words.

    Raises nothing, and takes little memory whatever the bytes declare.

    Args:
        data: what could not be decoded.
        error: what the decoder raised, if it did.
    """
    try:
        return _diagnosed(data) or _in_its_words(data, error)
    except Exception:  # a diagnosis that fails must not hide what it was to explain
        return _in_its_words(data, error)


def diagnose_zero_fill(data: bytes) -> str | None:
    """What a JPEG lacks that ends in zeros in place of its rest, as a copy that broke off can leave it; else None.

    Decoders that forgive much take the zeros for pixels and say nothing.
    """
    if not data.startswith(b"\xff\xd8") or not data.endswith(bytes(_MANY_ZEROS)):
        return None
    words = diagnose(data, None)
    return words if words.endswith(_ZEROS_FOLLOW) else None


def _diagnosed(data: bytes) -> str | None:
    if not data:
        return "empty file"
    if not data.strip(b"\0"):
        return f"all zeros, {len(data):,} of them: the file was never written, or its disk lost it"
    match image_format(data):
        case "JPEG":
            return _wrong_with_jpeg(data)
        case "PNG":
            return "PNG cut short: its end is missing" if _lacks_end_of_png(data) else None
        case "WebP":
            return _shorter_than("WebP", 8 + int.from_bytes(data[4:8], "little"), data)
        case "BMP":
            return _shorter_than("BMP", int.from_bytes(data[2:6], "little"), data)
        case None:
            others = (found for start, found in _OTHER_FILES if re.match(start, data, re.DOTALL))
            return next(others, None) or _as_text(data)
    return None


def image_format(data: bytes) -> str | None:
    """The format that is read and that encoded bytes begin as; None where it is none of them."""
    return next((form for form, start in _FORMS.items() if re.match(start, data, re.DOTALL)), None)


def _shorter_than(form: str, declared: int, data: bytes) -> str | None:
    return f"{form} cut after {len(data):,} of {declared:,} bytes" if len(data) < declared else None


def _lacks_end_of_png(data: bytes) -> bool:
    at = len(_PNG)
    while at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        if kind == b"IEND":
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True


def _as_text(data: bytes) -> str | None:
    """What a page or a message of a server, saved in an image's place, begins with."""
    # An incremental decoder minds no character that the end cuts.
    text = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode(data[: 4 * _SHOWN_CHARACTERS])
    if not text.strip() or not all((c.isprintable() and c != "\ufffd") or c in "\t\r\n" for c in text):
        return None
    return f"text, no image: begins with {text.strip()[:_SHOWN_CHARACTERS]!r}"


class _Frame(NamedTuple):
    height: int
    width: int
    is_sequential: bool
    num_components: int


def _wrong_with_jpeg(data: bytes) -> str | None:
    written = data.rstrip(b"\0")
    at, frame = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, after = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN and after <= len(data):
            return _cut_in_scan(data, written, at, frame) if frame and data.find(_END_OF_IMAGE, after) < 0 else None
        if marker in _FRAMES and after <= len(data):
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            frame = _Frame(height, width, marker in _SEQUENTIAL, data[at + 9])
        # A marker may have 0xFF before it, as many as it likes.
        at = at + 1 if marker == 0xFF else after
    return "JPEG cut inside its header" if at + 4 > len(data) and not written.endswith(_END_OF_IMAGE) else None


def _cut_in_scan(data: bytes, written: bytes, at: int, frame: _Frame) -> str:
    zeros = len(data) - len(written)
    tail = f"; {zeros:,} {_ZEROS_FOLLOW}" if zeros >= _MANY_ZEROS else ""
    # An image of several scans is there as a whole, coarsely, or not at all.
    one_scan = frame.is_sequential and data[at + 4] == frame.num_components
    if not one_scan or frame.height * frame.width > MAX_PIXELS:
        return f"JPEG cut short: its end is missing{tail}"
    rows = _whole_rows(written if tail else data)
    found = "short: its end marker is missing" if rows == frame.height else f"after {rows} of {frame.height} rows"
    return f"JPEG cut {found}{tail}"


def _whole_rows(data: bytes) -> int:
    """Rows of a cut JPEG's pixels that are there, without those of the row of coded units that the cut goes through.

    Pillow's decoder writes the rows that it has when the bytes end, and leaves the others as they were: those that
    show on which colour they were written are missing. An eighth of the size takes little memory and still has a row
    or more for each row of units.
    """
    (rows, height), (other, _) = _written_over(data, 0), _written_over(data, 255)
    missing = (rows != other).any(axis=1)
    num = int(missing.argmax()) if missing.any() else len(missing)
    return min(8 * num, height)


def _written_over(data: bytes, colour: int) -> tuple[np.ndarray, int]:
    """A cut JPEG at an eighth of its size, over a colour: [rows, bytes]; and its full height."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        height = image.height
        image.draft("L", (max(1, image.width // 8), max(1, height // 8)))
        below = Image.new(image.mode, image.size, (colour,) * len(image.getbands()))
        image.im = below.im
        with contextlib.suppress(OSError):
            image.load()
    return np.asarray(below).reshape(below.height, -1), height


def _in_its_words(data: bytes, error: Exception | None) -> str:
    form = image_format(data)
    if form is None and (error is None or isinstance(error, UnidentifiedImageError)):
        return f"no image in a format that is read: begins with {data[:16]!r}"
    if error is None or isinstance(error, UnidentifiedImageError):
        lacking = ", or of a kind that this Pillow cannot read" if form in _MAY_BE_LACKING else ""
        return f"{form} with a damaged header{lacking}"
    # Where an object lies in memory tells nobody anything.
    words = re.sub(r"<[^<>]* at 0x[0-9A-Fa-f]+>", "the file", " ".join(str(error).split()))[:_MAX_WORDS]
    return f"{form or 'no known format'}: {words or type(error).__name__}"
