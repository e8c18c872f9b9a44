"""The WebDataset part: a tar of one .npz per view, which plain webdataset and NumPy decode. FORMAT.md has its layout.

An .npz is a zip of .npy files; webdataset decodes it to a dict of arrays. A chunk is the deflated .npy of one array.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Integer, Shaped

from pld.errors import CorruptStoreError
from pld.store.format.archives import reproducible_tar, reproducible_zip
from pld.store.format.blocks import Block
from pld.store.format.canonical import canonical_json, sha256_hex
from pld.store.format.identity import Identity
from pld.store.format.quantise import GridTopK, class_dtype
from pld.store.format.samples import key_bytes
from pld.store.format.schema import SAMPLE_ARRAYS, VIEW_ARRAYS, Chunk, EncodedPart, view_values

_LEVEL = 6
_SAMPLES = "samples.npz"
_BYTE = np.dtype("u1")


@dataclasses.dataclass(frozen=True)
class NpyColumn:
    """One array as .npy files.

    Attributes:
        file: the .npy's name inside the .npz.
        member: the .npz of each chunk.
        dtype: of the decoded values.
        row_shape: their shape.
        stored: the .npy's own dtype and shape; the values' bytes, or their byte planes.
        gaps: whether differences along the last axis are stored.
    """

    file: str
    member: tuple[str, ...]
    dtype: np.dtype
    row_shape: tuple[int, ...]
    stored: tuple[np.dtype, tuple[int, ...]]
    gaps: bool = False

    @functools.cached_property
    def header(self) -> bytes:
        """The .npy's first bytes, written here because NumPy may pad them differently one day."""
        dtype, shape = self.stored
        text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
        length = -(-(len(text) + 11) // 64) * 64 - 10
        return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"

    @functools.cached_property
    def chunk_bytes(self) -> int:
        """See Column."""
        dtype, shape = self.stored
        return len(self.header) + math.prod(shape) * dtype.itemsize

    @property
    def max_encoded_bytes(self) -> int:
        """See Column; zlib's own bound for what it cannot compress, rounded up."""
        return self.chunk_bytes + self.chunk_bytes // 1000 + 64

    def chunk_name(self, view: int) -> str:
        """See Column."""
        return f"{self.member[view]}/{self.file}"

    def npy(self, values: np.ndarray) -> bytes:
        """The .npy of one chunk."""
        if self.gaps:
            values = np.diff(values, prepend=np.zeros_like(values[..., :1]))
        values = np.ascontiguousarray(values, self.dtype)
        if self._planes:
            values = np.moveaxis(values[..., None].view(np.uint8), -1, 0)
        return self.header + values.tobytes()

    def decode(self, data: bytes | memoryview, where: str) -> np.ndarray:
        """See Column. No more is decompressed than the chunk should have."""
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            raw = inflate.decompress(data, self.chunk_bytes + 1)
        except zlib.error as error:
            raise CorruptStoreError(f"{where}: found bytes that zlib cannot decode ({error})") from None
        header = self.header
        if len(raw) != self.chunk_bytes or not inflate.eof or inflate.unused_data or not raw.startswith(header):
            raise CorruptStoreError(f"{where}: found another array than the wanted .npy of {self.chunk_bytes} bytes")
        values = np.frombuffer(raw, np.uint8, offset=len(header))
        if self._planes:
            values = np.ascontiguousarray(np.moveaxis(values.reshape(-1, *self.row_shape), 0, -1))
        values = values.reshape(-1).view(self.dtype).reshape(self.row_shape)
        return np.cumsum(values, axis=-1, dtype=self.dtype) if self.gaps else values

    @property
    def _planes(self) -> bool:
        return len(self.stored[1]) > len(self.row_shape)


class WebDatasetPart:
    """See PartFormat."""

    suffix = ".tar"

    def columns(self, identity: Identity, block: Block, num_rows: int, key_bytes: int) -> Mapping[str, NpyColumn]:
        """See PartFormat."""
        codec = identity.codec
        classes, depths, tails = class_dtype(identity.teacher.num_classes), np.dtype("<u2"), np.dtype("<i2")
        samples, views = (_SAMPLES,), _view_members(block)
        width, text = len(codec.temperatures), (np.dtype(f"S{key_bytes}"), (num_rows,))
        return {
            "keys": NpyColumn("keys.npy", samples, _BYTE, (num_rows, key_bytes), text),
            "labels": _plain("labels", samples, classes, num_rows),
            "classes": _in_planes("classes", views, classes, num_rows, codec.k),
            "logprobs": _in_planes("logprobs", views, depths, num_rows, codec.k, gaps=True),
            "label_logprob": _plain("label_logprob", views, depths, num_rows),
            "scaled_tail_logmass": _in_planes("scaled_tail_logmass", views, tails, num_rows, width, gaps=True),
        }

    def encode(
        self,
        identity: Identity,
        block: Block,
        keys: Shaped[np.ndarray, "N"],
        labels: Integer[np.ndarray, "N"],
        views: Sequence[GridTopK],
    ) -> EncodedPart:
        """See PartFormat."""
        columns = self.columns(identity, block, len(keys), keys.dtype.itemsize)
        members, inside = {"part.json": _metadata(identity, block)}, []
        held = {_SAMPLES: dict(zip(SAMPLE_ARRAYS, (key_bytes(keys), labels), strict=True))}
        for name, view in zip(_view_members(block), views, strict=True):
            held[name] = dict(zip(VIEW_ARRAYS, view_values(view), strict=True))
        for member, arrays in held.items() if len(keys) else ():
            files = {columns[name].file: columns[name].npy(array) for name, array in arrays.items()}
            members[member], places = reproducible_zip(files, level=_LEVEL)
            inside.append((member, places.values()))
        data, offsets = reproducible_tar(members)
        chunks = [tuple(_chunk(data, offsets[name] + start, size) for start, size in places) for name, places in inside]
        return EncodedPart(data=data, samples=chunks[0] if chunks else (), views=tuple(chunks[1:]))


def _plain(name: str, member: tuple[str, ...], dtype: np.dtype, num_rows: int) -> NpyColumn:
    return NpyColumn(f"{name}.npy", member, dtype, (num_rows,), (dtype, (num_rows,)))


def _in_planes(
    name: str, member: tuple[str, ...], dtype: np.dtype, num_rows: int, width: int, *, gaps: bool = False
) -> NpyColumn:
    """A matrix as byte planes, the low bytes first."""
    stored = (_BYTE, (dtype.itemsize, num_rows, width))
    return NpyColumn(f"{name}.npy", member, dtype, (num_rows, width), stored, gaps)


def _view_members(block: Block) -> tuple[str, ...]:
    return tuple(f"v{view:03d}.npz" for view in range(block.first, block.last + 1))


def _chunk(data: bytes, offset: int, num_bytes: int) -> Chunk:
    return Chunk(offset=offset, num_bytes=num_bytes, sha256=sha256_hex(memoryview(data)[offset:][:num_bytes]))


def _metadata(identity: Identity, block: Block) -> bytes:
    return canonical_json(
        {
            "first_view": block.first,
            "grid": identity.codec.grid,
            "temperatures": identity.codec.temperatures,
            "num_classes": identity.teacher.num_classes,
            "fingerprint": identity.fingerprint,
        }
    )
