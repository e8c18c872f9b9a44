"""What decoding asks of a dataset: labelled, encoded images by row."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from pld.errors import UndecodableImageError
from pld.images.decode.image import decode_image
from pld.images.decode.jpeg_box import Box


@runtime_checkable
class ImageDataset(Protocol):
    """Labelled, encoded images by row. A Source is one; so is anything else with these methods."""

    @property
    def location(self) -> str:
        """What the user named, for messages."""

    def __len__(self) -> int:
        """How many samples there are."""

    def key(self, row: int) -> str:
        """The sample's own name, from which its views are drawn."""

    def label(self, row: int) -> int:
        """The sample's class index."""

    def read(self, row: int) -> bytes:
        """The encoded image; raises DataError if it cannot be read."""

    def num_bytes(self, row: int) -> int:
        """How many bytes `read` returns; raises DataError if the file is gone."""

    def where(self, row: int) -> str:
        """The file and the sample, for messages."""


def decode_row(
    dataset: ImageDataset, row: int, data: bytes, size: tuple[int, int] | None = None, box: Box | None = None
) -> UInt8[Tensor, "3 h w"]:
    """`decode_image` of a sample's bytes; raises UndecodableImageError that names the sample."""
    try:
        return decode_image(data, size, box)
    except UndecodableImageError as error:
        raise UndecodableImageError(f"{dataset.where(row)}: {error}") from error


def read_image(dataset: ImageDataset, row: int) -> UInt8[Tensor, "3 H W"]:
    """One whole image.

    Raises:
        UndecodableImageError: it cannot be decoded; names the sample.
        DataError: it cannot be read.
    """
    return decode_row(dataset, row, dataset.read(row))
