"""The WebDataset part: a tar of one .npz per view, which plain webdataset and NumPy decode. FORMAT.md has its layout.

An .npz is a zip of .npy files; webdataset decodes it to a dict of arrays. A chunk is the deflated .npy of one array.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from collections.abc import Mapping

import numpy as np

from pld.errors import CorruptStoreError
from pld.store.format.archives import reproducible_tar, reproducible_zip
from pld.store.format.blocks import Block
from pld.store.format.canonical import canonical_json
from pld.store.format.identity import Identity
from pld.store.format.quantise import class_dtype, count_dtype
from pld.store.format.schema import Chunk, PartRows, only_held, part_attributes

_LEVEL = 6
_BYTE = np.dtype("u1")


@dataclasses.dataclass(frozen=True)
class NpyColumn:
    """One array as .npy files, in chunks of a view (or of all samples, where it has no views).

    Attributes:
        name: of the array, and of the .npy inside the .npz.
        member: the .npz of each chunk.
        dtype: of the decoded values.
        row_shape: their shape.
        planes: whether the .npy holds the values' bytes as planes, the low bytes first.
        gaps: whether differences along the last axis are stored.
    """

    name: str
    member: tuple[str, ...]
    dtype: np.dtype
    row_shape: tuple[int, ...]
    planes: bool = False
    gaps: bool = False

    @property
    def stored(self) -> tuple[np.dtype, tuple[int, ...]]:
        """The .npy's own dtype and shape: keys are text there, without the trailing zeros."""
        if self.planes:
            return _BYTE, (self.dtype.itemsize, *self.row_shape)
        if self.name == "keys":
            return np.dtype(f"S{self.row_shape[1]}"), self.row_shape[:1]
        return self.dtype, self.row_shape

    @functools.cached_property
    def header(self) -> bytes:
        """The .npy's first bytes, written here because NumPy may pad them differently one day."""
        dtype, shape = self.stored
        text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
        length = -(-(len(text) + 11) // 64) * 64 - 10
        return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"

    @functools.cached_property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        dtype, shape = self.stored
        return len(self.header) + math.prod(shape) * dtype.itemsize

    @property
    def max_encoded_bytes(self) -> int:
        """Bytes of the largest encoded chunk: zlib's own bound for what it cannot compress, rounded up."""
        return self.chunk_bytes + self.chunk_bytes // 1000 + 64

    def chunk_name(self, view: int) -> str:
        """The chunk's name in the part, for messages; `view` is counted from the part's first."""
        return f"{self.member[view]}/{self.name}.npy"

    def npy(self, values: np.ndarray) -> bytes:
        """The .npy of one chunk."""
        if self.gaps:
            values = np.diff(values, prepend=np.zeros_like(values[..., :1]))
        values = np.ascontiguousarray(values, self.dtype)
        if self.planes:
            values = np.moveaxis(values[..., None].view(np.uint8), -1, 0)
        return self.header + values.tobytes()

    def decode(self, data: bytes | memoryview, where: str) -> np.ndarray:
        """One chunk's values: a row for each sample (keys as bytes [N, L]).

        No more is decompressed than the chunk should have. Raises CorruptStoreError.
        """
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            raw = inflate.decompress(data, self.chunk_bytes + 1)
        except zlib.error as error:
            raise CorruptStoreError(f"{where}: found bytes that zlib cannot decode ({error})") from None
        header = self.header
        if len(raw) != self.chunk_bytes or not inflate.eof or inflate.unused_data or not raw.startswith(header):
            raise CorruptStoreError(f"{where}: found another array than the wanted .npy of {self.chunk_bytes} bytes")
        values = np.frombuffer(raw, np.uint8, offset=len(header))
        if self.planes:
            values = np.ascontiguousarray(np.moveaxis(values.reshape(-1, *self.row_shape), 0, -1))
        values = values.reshape(-1).view(self.dtype).reshape(self.row_shape)
        return np.cumsum(values, axis=-1, dtype=self.dtype) if self.gaps else values


class WebDatasetPart:
    """The format "webdataset"."""

    suffix = ".tar"

    def columns(self, identity: Identity, block: Block, num_rows: int, key_bytes: int) -> Mapping[str, NpyColumn]:
        """The arrays of a part of num_rows samples, by name; key_bytes is the length of the longest key."""
        k, width = identity.codec.k, len(identity.codec.temperatures)
        drawn = (num_rows, identity.codec.tail_samples)
        classes, depths, tails = class_dtype(identity.teacher.num_classes), np.dtype("<u2"), np.dtype("<i2")
        samples, *views = _members(block)
        columns = [
            NpyColumn("keys", (samples,), _BYTE, (num_rows, key_bytes)),
            NpyColumn("labels", (samples,), classes, (num_rows,)),
            NpyColumn("classes", tuple(views), classes, (num_rows, k), planes=True),
            NpyColumn("logprobs", tuple(views), depths, (num_rows, k), planes=True, gaps=True),
            NpyColumn("label_logprob", tuple(views), depths, (num_rows,)),
            NpyColumn("scaled_tail_logmass", tuple(views), tails, (num_rows, width), planes=True, gaps=True),
            NpyColumn("tail_classes", tuple(views), classes, drawn, planes=True, gaps=True),
            NpyColumn("tail_logprobs", tuple(views), depths, drawn, planes=True),
            NpyColumn("tail_threshold", tuple(views), np.dtype("<i4"), (num_rows,)),
            NpyColumn("counts", tuple(views), count_dtype(k), (num_rows,)),
        ]
        named = {column.name: column for column in columns}
        return only_held(named, identity)

    def encode(self, identity: Identity, block: Block, rows: PartRows) -> tuple[bytes, list[tuple[Chunk, ...]]]:
        """The part's bytes, and its chunks in the order of `PartRows.arrays`."""
        columns = self.columns(identity, block, len(rows.keys), rows.keys.dtype.itemsize)
        about = part_attributes(identity, block) | {"grid": identity.codec.grid}
        members, inside = {"part.json": canonical_json(about)}, []
        for member, arrays in zip(_members(block), rows.arrays(), strict=False):  # no arrays without rows
            files = {f"{name}.npy": columns[name].npy(values) for name, values in arrays.items()}
            members[member], places = reproducible_zip(files, level=_LEVEL)
            inside.append((member, places.values()))
        data, offsets = reproducible_tar(members)
        return data, [
            tuple(Chunk.of(data, offsets[member] + start, size) for start, size in places) for member, places in inside
        ]


def _members(block: Block) -> list[str]:
    return ["samples.npz", *(f"v{view:03d}.npz" for view in range(block.first, block.last + 1))]
