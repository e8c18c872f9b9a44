"""What every part holds, and what a part format has to be able to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer, Shaped
from msgspec import Meta

from pld.store.format.blocks import Block
from pld.store.format.identity import Identity
from pld.store.format.quantise import GridTopK
from pld.store.format.typed_json import Sha256

# The arrays of a part, in the order in which they are written and commits list them.
SAMPLE_ARRAYS = ("keys", "labels")
VIEW_ARRAYS = ("classes", "logprobs", "label_logprob", "scaled_tail_logmass")
# What reading one view of one part may take: 1500 samples with all of 21,841 classes, and no more for a stranger.
MAX_VIEW_BYTES = 2**27


PartBytes = Annotated[int, Meta(ge=0, le=2**40)]


class Chunk(NamedTuple):
    """Where one chunk lies in its part, in bytes, and the sha256 of those bytes."""

    offset: PartBytes
    num_bytes: PartBytes
    sha256: Sha256


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedPart:
    """A part's bytes, and its chunks as a commit lists them; it has none without rows."""

    data: bytes
    samples: tuple[Chunk, ...]
    views: tuple[tuple[Chunk, ...], ...]


@runtime_checkable
class Column(Protocol):
    """One array of a part, in chunks of a view (or of all samples, where it has no views)."""

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""

    @property
    def max_encoded_bytes(self) -> int:
        """Bytes of the largest encoded chunk."""

    def chunk_name(self, view: int) -> str:
        """The chunk's name in the part, for messages; `view` is counted from the part's first."""

    def decode(self, data: bytes | memoryview, where: str) -> np.ndarray:
        """One chunk's values: a row for each sample (keys as bytes [N, L]). Raises CorruptStoreError."""


@runtime_checkable
class PartFormat(Protocol):
    """How parts are laid out: a manifest's `format`.

    Attributes:
        suffix: what the names of its parts end in.
    """

    suffix: str

    def columns(self, identity: Identity, block: Block, num_rows: int, key_bytes: int) -> Mapping[str, Column]:
        """The arrays of a part of num_rows samples, by name; key_bytes is the length of the longest key."""

    def encode(
        self,
        identity: Identity,
        block: Block,
        keys: Shaped[np.ndarray, "N"],
        labels: Integer[np.ndarray, "N"],
        views: Sequence[GridTopK],
    ) -> EncodedPart:
        """Lay out a part. A view's chunks lie together: one range of bytes fetches it."""


def view_values(view: GridTopK) -> tuple[np.ndarray, ...]:
    """The values of VIEW_ARRAYS."""
    return view.classes, view.depths, view.label_depth, view.tails


def view_bytes(columns: Mapping[str, Column]) -> int:
    """Decoded bytes of one view, or of the samples where they are more; a part has at most MAX_VIEW_BYTES."""
    return max(sum(columns[name].chunk_bytes for name in names) for names in (SAMPLE_ARRAYS, VIEW_ARRAYS))
