"""ImageDataset: the protocol of datasets that views can be decoded from."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from pld.errors import UndecodableImageError
from pld.images.decode.image import decode_image
from pld.images.decode.jpeg_box import Box


@runtime_checkable
class ImageDataset(Protocol):
    """Encoded images by row, labelled or not. A Source is one; so is anything else with these methods."""

    @property
    def location(self) -> str:
        """The user's name for the dataset, for messages."""

    def __len__(self) -> int:
        """The number of samples."""

    def key(self, row: int) -> str:
        """The sample's unique name, from which its views are drawn."""

    def label(self, row: int) -> int | None:
        """The sample's class index; None without labels."""

    def read(self, row: int) -> bytes:
        """The encoded image; raises DataError if it cannot be read."""

    def num_bytes(self, row: int) -> int:
        """The number of bytes that `read` returns; raises DataError if the file is gone."""

    def where(self, row: int) -> str:
        """The file and the sample, for messages."""


def decode_row(
    dataset: ImageDataset, row: int, data: bytes, size: tuple[int, int] | None = None, box: Box | None = None
) -> UInt8[Tensor, "3 h w"]:
    """Call `decode_image` on a sample's bytes; raises UndecodableImageError with the sample's name."""
    try:
        return decode_image(data, size, box)
    except UndecodableImageError as error:
        raise UndecodableImageError(f"{dataset.where(row)}: {error}") from error


def read_image(dataset: ImageDataset, row: int) -> UInt8[Tensor, "3 H W"]:
    """Read and decode one whole image.

    Raises:
        UndecodableImageError: it cannot be decoded; names the sample.
        DataError: it cannot be read.
    """
    return decode_row(dataset, row, dataset.read(row))
