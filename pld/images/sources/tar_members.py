"""What is written into image tars: members without a trace of machine or moment, under names that webdataset reads."""

from __future__ import annotations

import io
import tarfile

from pld.errors import DataError
from pld.images.decode.diagnosis import image_format
from pld.images.decode.image import EXTENSIONS
from pld.images.sources.source import Source


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add one file; TarInfo's own defaults are time 0 and owner 0, so that the same content gives the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def image_extension(content: bytes) -> str:
    """The extension of an encoded image, by how it begins; jpg where that says nothing."""
    form = image_format(content)
    return EXTENSIONS.get(form.upper(), ("jpg",))[0] if form else "jpg"


def check_keys(source: Source) -> None:
    """Raise DataError where a key has a dot: webdataset would take what is behind it for the extension."""
    dotted = [key for key in source.keys.tolist() if b"." in key.rpartition(b"/")[2]]
    if dotted:
        raise DataError(
            f"{source.location}: {len(dotted)} keys have a dot, the first {dotted[0].decode()}; webdataset takes all "
            "behind the first dot for the extension; rename the images, e.g. with a _ for the dot, and cache again "
            "where they were cached"
        )
