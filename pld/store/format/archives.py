"""Zips and tars that depend on nothing but their members, and where what they hold lies: what parts are made of."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping

_EPOCH = (1980, 1, 1, 0, 0, 0)
_LOCAL_HEADER_BYTES = 30


def reproducible_zip(members: Mapping[str, bytes], *, level: int = 0) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """A zip, deflated at this level or stored at 0, and for each member the offset and size of what it holds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if level else zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.create_system = 3  # else the operating system's
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, archive.compression, level)
        infos = archive.infolist()
    places = {
        info.filename: (info.header_offset + _LOCAL_HEADER_BYTES + len(info.filename), info.compress_size)
        for info in infos
    }
    return buffer.getvalue(), places


def reproducible_tar(members: Mapping[str, bytes]) -> tuple[bytes, dict[str, int]]:
    """A tar, and where the content of each member begins.

    It ends after two blocks of zeros: tarfile would fill it up to 10 KiB.
    """
    pieces, offsets, position = [], {}, 0
    for name, data in members.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        header, padding = info.tobuf(tarfile.USTAR_FORMAT), bytes(-len(data) % tarfile.BLOCKSIZE)
        pieces += [header, data, padding]
        offsets[name] = position + len(header)
        position = offsets[name] + len(data) + len(padding)
    return b"".join([*pieces, bytes(2 * tarfile.BLOCKSIZE)]), offsets
