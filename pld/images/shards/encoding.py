"""Re-encode images as smaller JPEGs, for disks that cannot keep up; opt-in, as it changes pixels."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
from typing import Any

import PIL
from PIL import Image, features

from pld.errors import ConfigError, UndecodableImageError
from pld.images.decode.diagnosis import image_format
from pld.images.decode.image import decode_image, jpeg_size

# Of large photos, pixels are averaged down to this many times the wanted size before they are resampled.
_REDUCING_GAP = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding:
    """How images are re-encoded: those with a longer side are resized to it, and all become JPEGs.

    JPEGs that are small enough keep their bytes. Orientation tags are ignored, as by the decoder, and not kept.

    Attributes:
        longest_side: pixels.
        quality: JPEG's, 1 to 100.
    """

    longest_side: int
    quality: int = 90

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        if self.longest_side < 1:
            raise ConfigError(f"longest_side = {self.longest_side}, wanted at least 1 pixel")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality = {self.quality}, wanted 1 to 100; 90 is usual")

    def to_json(self) -> dict[str, Any]:
        """What dataset.json keeps: the settings, and the libraries whose versions change pixels."""
        libraries = {
            "pillow": PIL.__version__,
            "libjpeg": features.version("libjpeg_turbo") or features.version("jpg"),
            "simplejpeg": importlib.metadata.version("simplejpeg"),
        }
        return {**dataclasses.asdict(self), "libraries": libraries}

    def apply(self, content: bytes) -> bytes:
        """Re-encode one image; raises UndecodableImageError, which does not name the sample."""
        if image_format(content) == "JPEG" and max(jpeg_size(content) or _declared_size(content)) <= self.longest_side:
            return content
        image = Image.fromarray(decode_image(content).permute(1, 2, 0).numpy())
        scale = self.longest_side / max(image.size)
        if scale < 1:
            width, height = (max(1, round(scale * side)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=self.quality)
        return encoded.getvalue()


def _declared_size(content: bytes) -> tuple[int, int]:
    """(width, height) of a JPEG that only Pillow decodes."""
    try:
        return Image.open(io.BytesIO(content), formats=("JPEG",)).size
    except Exception as error:  # Pillow's readers are partly Python: bytes can make them raise anything
        raise UndecodableImageError(f"cannot be decoded: {error}") from error
