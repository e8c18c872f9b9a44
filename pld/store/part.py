"""One part as bytes: a Zarr group in an uncompressed zip, and the table of where its chunks lie."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Integer, Shaped

from pld.store.arrays import ArraySpec
from pld.store.canonical import canonical_json, sha256_hex
from pld.store.commit import Chunk
from pld.store.grid import GridTopK
from pld.store.identity import Identity
from pld.store.plan import Block
from pld.store.samples import key_bytes
from pld.store.schema import SAMPLE_ARRAYS, VIEW_ARRAYS, part_arrays

_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedPart:
    """A part's bytes, and its chunks as a commit lists them."""

    data: bytes
    samples: tuple[Chunk, ...]
    views: tuple[tuple[Chunk, ...], ...]


def encode_part(
    identity: Identity,
    block: Block,
    keys: Shaped[np.ndarray, "N"],
    labels: Integer[np.ndarray, "N"],
    views: Sequence[GridTopK],
) -> EncodedPart:
    """Lay out a part. A view's chunks lie together: one range of bytes fetches it."""
    specs = part_arrays(identity, block.num_views, len(keys), keys.dtype.itemsize)
    metadata = {"zarr.json": _group_metadata(identity, block)}
    metadata |= {f"{name}/zarr.json": spec.metadata() for name, spec in specs.items()}
    if not len(keys):
        # Zarr wants no chunk of an array without elements.
        return EncodedPart(data=_zip(metadata)[0], samples=(), views=())
    samples = [specs[name] for name in SAMPLE_ARRAYS]
    members = _encode(samples, (key_bytes(keys), labels), 0)
    for index, view in enumerate(views):
        held = (view.classes, view.depths, view.label_depth, view.tails)
        members |= _encode([specs[name] for name in VIEW_ARRAYS], held, index)
    data, offsets = _zip(metadata | members)
    chunks = [
        Chunk(offset=offsets[name], num_bytes=len(chunk), sha256=sha256_hex(chunk)) for name, chunk in members.items()
    ]
    first, each = len(SAMPLE_ARRAYS), len(VIEW_ARRAYS)
    by_view = tuple(tuple(chunks[start : start + each]) for start in range(first, len(chunks), each))
    return EncodedPart(data=data, samples=tuple(chunks[:first]), views=by_view)


def _encode(specs: Sequence[ArraySpec], values: Sequence[np.ndarray], index: int) -> dict[str, bytes]:
    return {spec.chunk_name(index): spec.encode(held) for spec, held in zip(specs, values, strict=True)}


def _group_metadata(identity: Identity, block: Block) -> bytes:
    attributes = {
        "first_view": block.first,
        "temperatures": [float(t) for t in identity.codec.temperatures],
        "num_classes": identity.teacher.num_classes,
        "fingerprint": identity.fingerprint,
    }
    return canonical_json({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _zip(members: Mapping[str, bytes]) -> tuple[bytes, dict[str, int]]:
    """An uncompressed zip that depends on nothing but its members, and where the content of each begins."""
    buffer = io.BytesIO()
    offsets = {}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.create_system = 3  # else the operating system's
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
            offsets[name] = buffer.tell() - len(data)
    return buffer.getvalue(), offsets
