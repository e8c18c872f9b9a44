"""The arrays of a Zarr part: their shapes, their chunks' bytes, their zarr.json.

Only codecs that zarr and numcodecs decode by themselves; docs/decisions/0003-store-format.md has the measurements
that chose them. Chunks are coded here rather than through zarr so that a reader can check sizes and digests first,
and so that no event loop or thread of zarr's is there to be forked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numcodecs import blosc

from pld.errors import CorruptStoreError
from pld.store.format.canonical import canonical_json

# One above is zstd's last: 20 times slower for a sixth of a byte per view.
_LEVEL = 8
_MAX_BLOCK_BYTES = 2**20
_BLOSC_HEADER_BYTES = 16
_one_at_a_time = threading.Lock()


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """One Zarr array of a part, in chunks of a view (or of all samples, where it has no views).

    Attributes:
        name: in the Zarr group.
        dtype: little-endian integers.
        dimensions: each axis's name and length.
        shuffle: whether blosc transposes bytes or bits.
        typesize: bytes of what blosc takes for one element as it transposes.
        delta: whether differences along the flattened chunk are coded.
        attributes: what xarray makes of the integers (CF conventions).
    """

    name: str
    dtype: np.dtype
    dimensions: Mapping[str, int]
    shuffle: Literal["shuffle", "bitshuffle"]
    typesize: int
    _: dataclasses.KW_ONLY
    delta: bool = False
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """The whole array's shape."""
        return tuple(self.dimensions.values())

    @functools.cached_property
    def chunk_shape(self) -> tuple[int, ...]:
        """Each chunk's shape; samples are rounded up to eights, without which blosc shuffles no bits."""
        chunked = {"view": 1, "sample": max(1, -(-self.dimensions["sample"] // 8)) * 8}
        return tuple(chunked.get(name, size) for name, size in self.dimensions.items())

    @functools.cached_property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of what a chunk holds, without the view's axis and the padding."""
        return tuple(size for name, size in self.dimensions.items() if name != "view")

    @functools.cached_property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.chunk_shape) * self.dtype.itemsize

    @property
    def block_bytes(self) -> int:
        """What blosc transposes at once: whole eights of elements, since of other numbers it shuffles no bits."""
        return _MAX_BLOCK_BYTES // (8 * self.typesize) * (8 * self.typesize)

    @property
    def max_encoded_bytes(self) -> int:
        """Bytes of the largest encoded chunk: blosc stores what it cannot compress."""
        return self.chunk_bytes + int(blosc.MAX_OVERHEAD)

    def chunk_name(self, view: int = 0) -> str:
        """The chunk's name in the part, `view` counted from the part's first."""
        return "/".join([self.name, "c", str(view), *["0"] * (len(self.dimensions) - 1)])

    def metadata(self) -> bytes:
        """The array's zarr.json."""
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        if self.dtype.itemsize == 1:
            little = {"name": "bytes"}
        delta = {"name": "numcodecs.delta", "configuration": {"dtype": self.dtype.str, "astype": self.dtype.str}}
        blosc = {
            "name": "blosc",
            "configuration": {
                "cname": "zstd",
                "clevel": _LEVEL,
                "shuffle": self.shuffle,
                "typesize": self.typesize,
                "blocksize": self.block_bytes,
            },
        }
        return canonical_json(
            {
                "zarr_format": 3,
                "node_type": "array",
                "shape": self.shape,
                "data_type": self.dtype.name,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": self.chunk_shape}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": 0,
                "codecs": [*([delta] if self.delta else []), little, blosc],
                "dimension_names": list(self.dimensions),
                "attributes": dict(self.attributes),
            }
        )

    def encode(self, chunk: np.ndarray) -> bytes:
        """The bytes, in the part, of a chunk without its padding; the same for the same values and numcodecs."""
        padded = np.zeros(self.chunk_shape, self.dtype).reshape(-1)
        padded[: chunk.size] = chunk.reshape(-1)
        if self.delta:
            padded[1:] = np.diff(padded)
        with _without_blosc_threads():
            method = {"shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}[self.shuffle]
            return bytes(blosc.compress(padded, b"zstd", _LEVEL, method, self.block_bytes, typesize=self.typesize))

    def decode(self, data: bytes | memoryview, where: str) -> np.ndarray:
        """The chunk that `encode` made into `data`, without the view's axis and the padding.

        Raises:
            CorruptStoreError: its sizes are not this array's, or it cannot be decoded.
        """
        # What the chunk says of its sizes is checked before any memory is spent on it.
        wanted = (self.chunk_bytes, len(data))
        found = int.from_bytes(data[4:8], "little"), int.from_bytes(data[12:16], "little")
        if len(data) < _BLOSC_HEADER_BYTES or found != wanted:
            raise CorruptStoreError(
                f"{where}: found a chunk of {found[0]} decoded bytes in {found[1]}, wanted {wanted[0]} in {wanted[1]}"
            )
        try:
            raw = blosc.decompress(data)
        except RuntimeError as error:
            raise CorruptStoreError(f"{where}: found bytes that blosc cannot decode ({error})") from None
        values = np.frombuffer(raw, dtype=self.dtype)
        if self.delta:
            values = np.cumsum(values, dtype=self.dtype)
        return values[: math.prod(self.row_shape)].reshape(self.row_shape)


@contextlib.contextmanager
def _without_blosc_threads() -> Iterator[None]:
    """Keep blosc from its threads: they order a buffer's blocks by who finishes first."""
    with _one_at_a_time:
        before, blosc.use_threads = blosc.use_threads, False
        try:
            yield
        finally:
            blosc.use_threads = before
