"""One box of an ordinary JPEG, where there is a libturbojpeg 3: pixels around it are not made, rows below not read.

The pixels are to the last bit those of the whole image. The library is called through ctypes, as simplejpeg's own copy
of it does not let boxes be asked for: the environment's or the system's, else that of the wheel `turbojpeg`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

# From turbojpeg.h, whose numbers are kept.
_DECOMPRESSOR, _RGB, _SUBSAMPLING = 1, 0, 4
_BLOCK_WIDTHS = {0: 8, 1: 16, 2: 16, 3: 8, 4: 8, 5: 32, 6: 8}  # of a sampling's smallest unit; a box begins with one

# Chroma is interpolated, so the box's outermost pixels need their neighbours.
_MARGIN = 4

# Fewer pixels than this are not worth the attempt.
_LEAST_SAVED = 16_384

# Where a whole file's end marker is; some have a little behind it.
_TAIL_BYTES = 64

_of_thread = threading.local()


def decode_box(data: bytes, size: tuple[int, int], box: tuple[int, int, int, int]) -> UInt8[np.ndarray, "h w 3"] | None:
    """The pixels of a box; None where that saves nothing, or the image has to be judged as a whole.

    That is where the library as much as warns; damage below the box it does not see.

    Args:
        data: an ordinary JPEG, see `jpeg_size`.
        size: (height, width) of the image.
        box: (top, left, height, width), inside.
    """
    (rows, columns), (top, left, height, width) = size, box
    library = find_library()
    if library is None or rows * columns - height * width < _LEAST_SAVED or b"\xff\xd9" not in data[-_TAIL_BYTES:]:
        return None
    decoder = _decoder(library)
    if library.tj3DecompressHeader(decoder, data, len(data)):
        return None
    block_width = _BLOCK_WIDTHS.get(library.tj3Get(decoder, _SUBSAMPLING))
    if block_width is None:
        return None
    first_row, first_column = max(0, top - _MARGIN), max(0, left - _MARGIN) // block_width * block_width
    last_row, last_column = min(rows, top + height + _MARGIN), min(columns, left + width + _MARGIN)
    pixels = np.empty((last_row - first_row, last_column - first_column, 3), np.uint8)
    region = _Region(first_column, first_row, last_column - first_column, last_row - first_row)
    if library.tj3SetCroppingRegion(decoder, region):
        return None
    if library.tj3Decompress8(decoder, data, len(data), pixels.ctypes.data, 0, _RGB):
        return None
    top, left = top - first_row, left - first_column
    return pixels[top : top + height, left : left + width]


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("left", "top", "width", "height")]


class _Decoder:
    """A thread's decoder, freed with its thread."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.handle = library.tj3Init(_DECOMPRESSOR)

    def __del__(self) -> None:
        self._library.tj3Destroy(self.handle)


def _decoder(library: ctypes.CDLL) -> int:
    if not hasattr(_of_thread, "decoder"):
        _of_thread.decoder = _Decoder(library)
    handle: int = _of_thread.decoder.handle
    return handle


@functools.cache
def find_library() -> ctypes.CDLL | None:
    """The first libturbojpeg that knows boxes, if there is one."""
    for name in _names():
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(str(name))
            if hasattr(library, "tj3SetCroppingRegion"):
                return _declared(library)
    return None


def _names() -> Iterator[str | Path]:
    name = {"linux": "libturbojpeg.so.0", "darwin": "libturbojpeg.0.dylib"}.get(sys.platform)
    if name:
        yield Path(sys.prefix) / "lib" / name  # conda's
        yield name
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        files = importlib.metadata.files("turbojpeg") or ()
        yield from (str(file.locate()) for file in files if file.name.startswith("libturbojpeg"))


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of what is called, as turbojpeg.h has them."""
    handle, data, size, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
    library.tj3Init.argtypes, library.tj3Init.restype = [number], handle
    library.tj3Destroy.argtypes, library.tj3Destroy.restype = [handle], None
    library.tj3DecompressHeader.argtypes = [handle, data, size]
    library.tj3Get.argtypes = [handle, number]
    library.tj3SetCroppingRegion.argtypes = [handle, _Region]
    library.tj3Decompress8.argtypes = [handle, data, size, ctypes.c_void_p, number, number]
    return library
