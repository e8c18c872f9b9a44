"""Write members of image tars: reproducible, under names that webdataset reads."""

from __future__ import annotations

import io
import re
import tarfile

from pld.errors import DataError
from pld.images.decode.diagnosis import image_format
from pld.images.decode.image import EXTENSIONS
from pld.images.reader import ImageReader

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add one file; TarInfo's defaults are time 0 and owner 0, so the same content gives the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def image_extension(content: bytes | memoryview) -> str:
    """The extension of an encoded image, by its first bytes; jpg if they are unknown."""
    form = image_format(content)
    return EXTENSIONS.get(form.upper(), ("jpg",))[0] if form else "jpg"


def check_keys(reader: ImageReader) -> None:
    """Raise DataError if a key has a dot, after which webdataset takes everything for the extension, or a control
    character, which tars and lists of files cut or garble.
    """
    control = next((key for key in reader.keys.tolist() if _CONTROL.search(key)), None)
    if control is not None:
        raise DataError(
            f"{reader.location}: the key {control!r} has a control character; wanted printable names. Rename the image"
        )
    dotted = [key for key in reader.keys.tolist() if b"." in key.rpartition(b"/")[2]]
    if dotted:
        raise DataError(
            f"{reader.location}: {len(dotted)} keys have a dot, the first {dotted[0].decode()}; webdataset takes "
            "everything after the first dot for the extension. Rename the images, e.g. with a _ for the dot, and if "
            "they are cached, cache them again"
        )
