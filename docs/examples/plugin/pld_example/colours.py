"""A dataset: `--data colours:12`, twelve images of plain colours that are made when they are read."""

import dataclasses
import io

import numpy as np
from PIL import Image

from pld.errors import DataError
from pld.images import ImageShard, Source, register_source

NAMES = ("red", "green", "blue")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Colours(Source):
    """Images that are not in files: `read` makes them."""

    def read(self, row: int) -> bytes:
        """The encoded image."""
        # Not the row: subsets of the dataset number their rows anew.
        number = int(self.offsets[row])
        colour = np.zeros((40 + number, 60, 3), np.uint8)
        colour[..., number % 3] = 255
        encoded = io.BytesIO()
        Image.fromarray(colour).save(encoded, "PNG")
        return encoded.getvalue()

    def num_bytes(self, row: int) -> int:
        """Its size."""
        return len(self.read(row))

    def where(self, row: int) -> str:
        """Its name, for messages."""
        return f"{self.location}: sample {self.key(row)}"


@register_source("colours")
def open_colours(place: str, split: str) -> Source:
    """Open PLACE, a number of images; the split is part of their keys."""
    if not place.isdecimal() or int(place) < 1:
        raise DataError(f"colours:{place}: wanted a number of images, such as colours:12")
    numbers = np.arange(int(place))
    return Colours(
        location=f"colours:{place}",
        shards=(ImageShard(split, len(numbers)),),
        keys=np.array([f"{split}/{number:04d}".encode() for number in numbers]),
        labels=numbers % 3,
        files=("",),
        file_index=np.zeros_like(numbers),
        offsets=numbers,
        sizes=np.full_like(numbers, -1),
        class_names=NAMES,
    )
