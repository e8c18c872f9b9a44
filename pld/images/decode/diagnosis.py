"""Diagnose files that cannot be decoded: what is wrong, and what to do about it."""

from __future__ import annotations

import codecs
import contextlib
import io
import re
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from pld.images.decode.jpeg_markers import SEQUENTIAL, START_OF_SCAN, segments

# ImageNet's largest photo has 32 million pixels; a bomb of a few KB can declare billions.
MAX_PIXELS = 100_000_000

# A truncated image may end in a few zeros; more of them were never written, or replace content that a disk lost.
_MANY_ZEROS = 64
_ZEROS_FOLLOW = "zero bytes follow"

_SHOWN_CHARACTERS = 24
_MAX_WORDS = 200

_CONVERT = "which is not read; convert it, e.g. to JPEG"

# The first bytes of files in other formats.
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

# The first bytes of images in supported formats.
_FORMS = {
    "JPEG": rb"\xff\xd8",
    "PNG": rb"\x89PNG",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "GIF": rb"GIF8",
    "WebP": rb"RIFF.{4}WEBP",
    # The brand may follow others in the first box, which has less than 256 bytes in any sane file.
    "AVIF": rb"\0\0\0.ftyp(.{4}){0,60}?avi[fs]",
    "BMP": rb"BM",
    "PPM": rb"P[1-7fFy]\s",
}
_OPTIONAL_FORMATS = ("TIFF", "WebP", "AVIF")

_FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
_END_OF_IMAGE = b"\xff\xd9"

_PNG_END = b"IEND\xaeB`\x82"  # the last chunk, always empty, and its checksum


def diagnose(data: bytes, error: Exception | None) -> str:
    """What is wrong with encoded bytes, judged by their beginning and end; else the decoder's own message.

    Raises nothing, and takes little memory whatever the bytes declare.

    Args:
        data: what could not be decoded.
        error: what the decoder raised, if it did.
    """
    try:
        return _diagnose_format(data) or _decoder_message(data, error)
    except Exception:  # a failing diagnosis must not hide the original error
        return _decoder_message(data, error)


def diagnose_zero_fill(data: bytes) -> str | None:
    """What is missing from a JPEG whose end is zeros, as an interrupted copy can leave it; None for any other file.

    Lenient decoders take the zeros for pixels without an error.
    """
    if not data.startswith(b"\xff\xd8") or not data.endswith(bytes(_MANY_ZEROS)):
        return None
    words = diagnose(data, None)
    return words if words.endswith(_ZEROS_FOLLOW) else None


def _diagnose_format(data: bytes) -> str | None:
    if not data:
        return "empty file"
    if not data.strip(b"\0"):
        return f"all zeros, {len(data):,} of them: the file was never written, or its disk lost it"
    match image_format(data):
        case "JPEG":
            return _diagnose_jpeg(data)
        case "PNG":
            return None if _PNG_END in data else "PNG cut short: its end is missing"
        case "WebP":
            return _diagnose_length("WebP", 8 + int.from_bytes(data[4:8], "little"), data)
        case "BMP":
            return _diagnose_length("BMP", int.from_bytes(data[2:6], "little"), data)
        case None:
            others = (found for start, found in _OTHER_FILES if re.match(start, data, re.DOTALL))
            return next(others, None) or _diagnose_text(data)
    return None


def image_format(data: bytes | memoryview) -> str | None:
    """The supported format that encoded bytes begin like; None for any other."""
    return next((form for form, start in _FORMS.items() if re.match(start, data, re.DOTALL)), None)


def _diagnose_length(form: str, declared: int, data: bytes) -> str | None:
    return f"{form} cut after {len(data):,} of {declared:,} bytes" if len(data) < declared else None


def _diagnose_text(data: bytes) -> str | None:
    """Quote the beginning of a text file, such as a server's error page saved as an image."""
    # An incremental decoder accepts a character that is cut at the end.
    text = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode(data[: 4 * _SHOWN_CHARACTERS])
    if not text.strip() or not all((c.isprintable() and c != "\ufffd") or c in "\t\r\n" for c in text):
        return None
    return f"text, no image: begins with {text.strip()[:_SHOWN_CHARACTERS]!r}"


class _Frame(NamedTuple):
    height: int
    width: int
    is_sequential: bool
    num_components: int


def _diagnose_jpeg(data: bytes) -> str | None:
    written = data.rstrip(b"\0")
    end, frame = 2, None
    for marker, start, end in segments(data):
        if marker == START_OF_SCAN and end <= len(data):
            if frame is None or data.find(_END_OF_IMAGE, end) >= 0:
                return None
            return _diagnose_scan(data, written, frame, num_components=data[start + 4])
        if marker in _FRAMES and end <= len(data):
            height, width = (int.from_bytes(data[at : at + 2], "big") for at in (start + 5, start + 7))
            frame = _Frame(height, width, marker in SEQUENTIAL, data[start + 9])
    return "JPEG cut inside its header" if end + 4 > len(data) and not written.endswith(_END_OF_IMAGE) else None


def _diagnose_scan(data: bytes, written: bytes, frame: _Frame, num_components: int) -> str:
    zeros = len(data) - len(written)
    tail = f"; {zeros:,} {_ZEROS_FOLLOW}" if zeros >= _MANY_ZEROS else ""
    # The first of several scans already covers the whole image, coarsely: there are no missing rows to count.
    one_scan = frame.is_sequential and num_components == frame.num_components
    if not one_scan or frame.height * frame.width > MAX_PIXELS:
        return f"JPEG cut short: its end is missing{tail}"
    rows = _count_rows(written if tail else data)
    found = "short: its end marker is missing" if rows == frame.height else f"after {rows} of {frame.height} rows"
    return f"JPEG cut {found}{tail}"


def _count_rows(data: bytes) -> int:
    """How many rows of a truncated JPEG are complete, without the row of coded units in which it ends.

    Pillow's decoder writes the rows that it has when the bytes end, and leaves the others untouched: rows that differ
    when decoded over two background colours are missing. An eighth of the size takes little memory and still has at
    least one row for each row of units.
    """
    (rows, height), (other, _) = _decode_over(data, 0), _decode_over(data, 255)
    missing = (rows != other).any(axis=1)
    num = int(missing.argmax()) if missing.any() else len(missing)
    return min(8 * num, height)


def _decode_over(data: bytes, colour: int) -> tuple[np.ndarray, int]:
    """Decode a truncated JPEG at an eighth of its size over a background colour: [rows, bytes]; and its full height."""
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


def _decoder_message(data: bytes, error: Exception | None) -> str:
    form = image_format(data)
    if form is None and (error is None or isinstance(error, UnidentifiedImageError)):
        return f"no image in a format that is read: begins with {data[:16]!r}"
    if error is None or isinstance(error, UnidentifiedImageError):
        unsupported = ", or of a kind that this Pillow cannot read" if form in _OPTIONAL_FORMATS else ""
        return f"{form} with a damaged header{unsupported}"
    # An object's memory address is of no use to the reader.
    words = re.sub(r"<[^<>]* at 0x[0-9A-Fa-f]+>", "the file", " ".join(str(error).split()))[:_MAX_WORDS]
    return f"{form or 'no known format'}: {words or type(error).__name__}"
