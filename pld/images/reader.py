"""ImageReader: the protocol of datasets that `pld data --shards` reads once, unit by unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Int64
from numpy import ndarray

from pld.views import Policy


@runtime_checkable
class ImageReader(Protocol):
    """Encoded images in units that are read at once: a row group, an inner tar, a run of files. A Source is one.

    Row i is the i-th sample, unit after unit.
    """

    @property
    def location(self) -> str:
        """The user's name for the dataset, for messages."""

    @property
    def keys(self) -> ndarray:
        """Bytes [N] (NumPy `S`, UTF-8), unique."""

    @property
    def labels(self) -> Int64[ndarray, "N"] | None:
        """Class indices; None if no image has a label, and their shards no .cls."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The label space, if the dataset states it."""

    @property
    def policy(self) -> Policy:
        """How this dataset's views are drawn unless the user says otherwise."""

    @property
    def encoding(self) -> Mapping[str, Any] | None:
        """How its images were re-encoded, as dataset.json says it; None for images as they were."""

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each thing that the user should know about how this was read."""

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples in each unit."""

    def where(self, row: int) -> str:
        """The file and the sample, for messages."""

    def num_bytes(self, row: int) -> int | None:
        """The size of an encoded image; None if only reading it tells."""

    def read_units(self, units: Iterable[Int64[ndarray, "_"]]) -> Iterator[bytes | memoryview]:
        """Yield the encoded images of rows in the order asked for; each array has rows of one unit.

        A reader holds no more than two units at once, and may read the next one while the caller is busy.

        Raises:
            DataError: an image cannot be read; names it.
        """
