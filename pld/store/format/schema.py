"""What every part holds, in whatever format."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Integer, Shaped
from msgspec import Meta

from pld.store.format.blocks import Block
from pld.store.format.canonical import sha256_hex
from pld.store.format.identity import Identity
from pld.store.format.quantise import GridTopK
from pld.store.format.samples import key_bytes
from pld.store.format.typed_json import Sha256

T = TypeVar("T")

# The arrays of a part, in the order in which they are written and commits list them.
SAMPLE_ARRAYS = ("keys", "labels")
VIEW_ARRAYS = (
    "classes",
    "logprobs",
    "label_logprob",
    "scaled_tail_logmass",
    "tail_classes",
    "tail_logprobs",
    "tail_threshold",
    "counts",
)
# Those of them that a part without labels lacks.
_LABEL_ARRAYS = ("labels", "label_logprob")
# Those that a part without sampled tails lacks.
_TAIL_ARRAYS = ("tail_classes", "tail_logprobs", "tail_threshold")
# Those that a part whose rows all list k classes lacks.
_ERROR_ARRAYS = ("counts",)
# What reading one view of one part may take: 1500 samples with all of 21,841 classes, and no more for a stranger.
MAX_VIEW_BYTES = 2**27


PartBytes = Annotated[int, Meta(ge=0, le=2**40)]


class Chunk(NamedTuple):
    """Where one chunk lies in its part, in bytes, and the sha256 of those bytes."""

    offset: PartBytes
    num_bytes: PartBytes
    sha256: Sha256

    @classmethod
    def of(cls, part: bytes, offset: int, num_bytes: int) -> Chunk:
        """The chunk that lies there in a part."""
        return cls(offset, num_bytes, sha256_hex(memoryview(part)[offset:][:num_bytes]))


def sample_arrays(identity: Identity) -> tuple[str, ...]:
    """The names of the arrays of a part's samples, in their order."""
    return tuple(only_held(dict.fromkeys(SAMPLE_ARRAYS), identity))


def view_arrays(identity: Identity) -> tuple[str, ...]:
    """The names of the arrays of each of a part's views, in their order."""
    return tuple(only_held(dict.fromkeys(VIEW_ARRAYS), identity))


def only_held(arrays: Mapping[str, T], identity: Identity) -> Mapping[str, T]:
    """Arrays by name, without those of labels, of sampled tails and of an error where the store has none."""
    absent = (
        *(() if identity.dataset.labelled else _LABEL_ARRAYS),
        *(() if identity.codec.tail_samples else _TAIL_ARRAYS),
        *(() if identity.codec.error is not None else _ERROR_ARRAYS),
    )
    return {name: array for name, array in arrays.items() if name not in absent}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartRows:
    """The N rows of a part: their keys, as an 'S' array, their labels, and for each view of the block their top-k.

    Of images without labels `labels` is None, and so is each view's `label_depth`.
    """

    keys: Shaped[np.ndarray, "N"]
    labels: Integer[np.ndarray, "N"] | None
    views: Sequence[GridTopK]

    def arrays(self) -> list[dict[str, np.ndarray]]:
        """The sample's arrays by name (keys as bytes [N, L]), then those of each view; nothing at all without rows."""
        if not len(self.keys):
            return []
        named = [zip(SAMPLE_ARRAYS, (key_bytes(self.keys), self.labels), strict=True)]
        named += [zip(VIEW_ARRAYS, view, strict=True) for view in self.views]
        return [{name: values for name, values in arrays if values is not None} for arrays in named]


def part_attributes(identity: Identity, block: Block) -> dict[str, Any]:
    """What a part says of itself, for those who read it without its store."""
    return {
        "first_view": block.first,
        "temperatures": identity.codec.temperatures,
        "num_classes": identity.teacher.num_classes,
        "fingerprint": identity.fingerprint,
    }
