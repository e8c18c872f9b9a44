"""Reading chunks of a part that a stranger may have written: sizes first, then digests, then decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pld.errors import CorruptStoreError, NotCachedError
from pld.signals.tail_sample import LEAST_LOG_INCLUSION
from pld.store.documents.commit import Commit
from pld.store.documents.manifest import Manifest
from pld.store.format.arrays import ArraySpec
from pld.store.format.canonical import sha256_hex
from pld.store.format.quantise import GridTopK, class_dtype, padding
from pld.store.format.samples import matrix_keys
from pld.store.format.schema import Chunk
from pld.store.format.webdataset_part import NpyColumn
from pld.store.objects.storage import Storage

Column = ArraySpec | NpyColumn
MEND = "`pld verify STORE --repair delete` takes it out, then cache or copy it again"
# What may lie between two neighbouring chunks: zip headers.
_MAX_GAP_BYTES = 2**12


def read_view(storage: Storage, manifest: Manifest, commit: Commit, view: int) -> GridTopK:
    """One view of a part, checked; `view` counts from the store's first. Raises CorruptStoreError."""
    if not commit.num_samples:
        return GridTopK.empty(0, manifest.identity.codec.k, manifest.identity)
    columns, index = _columns(manifest, commit), view - commit.part_id.block.first
    chunks = zip([columns[name] for name in manifest.view_arrays], commit.views[index], strict=True)
    found = dict(zip(manifest.view_arrays, _read(storage, commit, list(chunks), index), strict=True))
    grid = GridTopK(
        classes=found["classes"],
        depths=found["logprobs"],
        label_depth=found.get("label_logprob"),
        tails=found["scaled_tail_logmass"],
        tail_classes=found.get("tail_classes"),
        tail_depths=found.get("tail_logprobs"),
        tail_threshold=found.get("tail_threshold"),
        counts=found.get("counts"),
    )
    where = f"{storage.url}/{commit.part_name}"
    _check_classes(grid.classes, manifest, f"{where}: classes")
    if grid.counts is not None:
        _check_padding(grid.counts, grid, where)
    if grid.tail_classes is not None:
        _check_classes(grid.tail_classes, manifest, f"{where}: tail_classes")
    if grid.tail_depths is not None and grid.tail_threshold is not None:
        _check_inclusion(grid.tail_depths, grid.tail_threshold, manifest, f"{where}: tail_threshold")
    return grid


def read_labels(storage: Storage, manifest: Manifest, commit: Commit) -> np.ndarray | None:
    """A part's labels, compact; None in a store without labels. Raises CorruptStoreError."""
    if not manifest.is_labelled:
        return None
    if not commit.num_samples:
        return np.empty(0, class_dtype(manifest.identity.teacher.num_classes))
    (labels,) = _read(storage, commit, [(_columns(manifest, commit)["labels"], commit.samples[1])], 0)
    _check_classes(labels, manifest, f"{storage.url}/{commit.part_name}: labels")
    return labels


def read_keys(storage: Storage, manifest: Manifest, commit: Commit) -> np.ndarray:
    """A part's keys as an 'S' array. Raises CorruptStoreError."""
    if not commit.num_samples:
        return np.empty(0, "S1")
    (matrix,) = _read(storage, commit, [(_columns(manifest, commit)["keys"], commit.samples[0])], 0)
    return matrix_keys(matrix)


def _columns(manifest: Manifest, commit: Commit) -> Mapping[str, Column]:
    return manifest.columns(commit.part_id.block, commit.num_samples, commit.key_bytes)


def _check_classes(classes: np.ndarray, manifest: Manifest, where: str) -> None:
    """Classes index students' logits: a wild one must not get there."""
    largest = int(classes.max(initial=0))
    num_classes = manifest.identity.teacher.num_classes
    if largest >= num_classes:
        raise CorruptStoreError(f"{where}: found class {largest}, wanted 0..{num_classes - 1}")


def _check_padding(counts: np.ndarray, grid: GridTopK, where: str) -> None:
    """A row lists 1 to k classes, and what follows them is padding: readers compare labels with all entries."""
    k = grid.classes.shape[1]
    wrong = (counts < 1) | (counts > k)
    if wrong.any():
        row = int(wrong.argmax())
        raise CorruptStoreError(f"{where}: counts: row {row} lists {int(counts[row])} classes, wanted 1..{k}")
    last = np.take_along_axis(grid.depths, counts[:, None].astype(np.int64) - 1, axis=1)
    strange = grid.classes != grid.classes[:, :1]
    strange |= grid.depths != last
    strange &= padding(counts, k)
    if strange.any():
        raise CorruptStoreError(
            f"{where}: row {int(strange.any(axis=1).argmax())} has other padding than its first class and last depth"
        )


def _check_inclusion(depths: np.ndarray, threshold: np.ndarray, manifest: Manifest, where: str) -> None:
    """Losses divide by probabilities of being drawn: one that is nearly 0 must not get there."""
    codec = manifest.identity.codec
    below = depths.max(axis=1).astype(np.int64) + threshold
    if int(below.max(initial=0)) * codec.grid > -LEAST_LOG_INCLUSION * codec.temperatures[-1]:
        raise CorruptStoreError(f"{where}: row {int(below.argmax())} has a class that could not have been drawn")


def _read(storage: Storage, commit: Commit, chunks: Sequence[tuple[Column, Chunk]], index: int) -> list[np.ndarray]:
    """Fetch neighbouring chunks in one range of bytes, compare their digests, decode them."""
    where = f"{storage.url}/{commit.part_name}"
    start, num_bytes = _span(chunks, where)

    def encoded(data: bytes, chunk: Chunk) -> memoryview:
        return memoryview(data)[chunk.offset - start :][: chunk.num_bytes]

    def check(data: bytes) -> None:
        for column, chunk in chunks:
            if sha256_hex(encoded(data, chunk)) != chunk.sha256:
                place = f"{where}: {column.chunk_name(index)}"
                raise CorruptStoreError(f"{place}: other bytes than were committed; {MEND}")

    try:
        data = storage.read_range(commit.part_name, start, num_bytes, check)
    except NotCachedError:
        raise CorruptStoreError(f"{where}: a commit names this part and it is gone; {MEND}") from None
    return [column.decode(encoded(data, chunk), f"{where}: {column.chunk_name(index)}") for column, chunk in chunks]


def _span(chunks: Sequence[tuple[Column, Chunk]], where: str) -> tuple[int, int]:
    """The offset and length of the range that holds the chunks, refused where it is larger than they can need."""
    start = min(chunk.offset for _, chunk in chunks)
    num_bytes = max(chunk.offset + chunk.num_bytes for _, chunk in chunks) - start
    limit = sum(column.max_encoded_bytes + _MAX_GAP_BYTES for column, _ in chunks)
    if num_bytes > limit:
        raise CorruptStoreError(f"{where}: found chunks spread over {num_bytes} bytes, wanted at most {limit}")
    return start, num_bytes
