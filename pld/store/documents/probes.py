"""Pixel probes as a store keeps them: a few small views beside the logits; pld.join.pixel_probes compares them.

They are not part of the identity; stores from older versions have none.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from jaxtyping import UInt8
from msgspec import Meta

from pld.errors import CorruptStoreError
from pld.store.documents.manifest import Manifest
from pld.store.format.blocks import ViewIndex
from pld.store.format.canonical import OPTIONAL, dump_document
from pld.store.format.typed_json import Sha256, read_document
from pld.store.objects.storage import Storage

PROBES_NAME = "probes.json"
_Side = Annotated[int, Meta(ge=1, le=32)]
_ImageSide = Annotated[int, Meta(ge=1, le=2**31 - 1)]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """A view's pixels, at most 32 x 32 of them.

    Attributes:
        key: the sample's.
        view: the view's index.
        pixels: red, green and blue, as its writer saw them.
        image_size: (height, width) of the whole image, decoded; None in stores made before it was kept.
    """

    key: str
    view: int
    pixels: UInt8[np.ndarray, "3 height width"]
    image_size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _StoredProbe:
    """A probe as JSON: `size` is (height, width) of the pixels, which are in base64."""

    key: str
    view: ViewIndex
    size: tuple[_Side, _Side]
    pixels: bytes
    image_size: tuple[_ImageSide, _ImageSide] | None = dataclasses.field(default=None, metadata=OPTIONAL)

    @classmethod
    def of(cls, probe: Probe) -> _StoredProbe:
        height, width = probe.pixels.shape[1:]
        pixels = probe.pixels.tobytes()
        return cls(key=probe.key, view=probe.view, size=(height, width), pixels=pixels, image_size=probe.image_size)

    def decode(self, where: str) -> Probe:
        shape = (3, *self.size)
        if len(self.pixels) != math.prod(shape):
            raise CorruptStoreError(f"{where}: found {len(self.pixels)} bytes of pixels, wanted {math.prod(shape)}")
        pixels = np.frombuffer(self.pixels, np.uint8).reshape(shape)
        return Probe(key=self.key, view=self.view, pixels=pixels, image_size=self.image_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _StoredProbes:
    """The content of probes.json."""

    fingerprint: Sha256
    probes: tuple[_StoredProbe, ...]


def write_probes(storage: Storage, manifest: Manifest, probes: Sequence[Probe]) -> bool:
    """Keep probes, unless the store has some; whether this call did. Raises StoreError."""
    stored = tuple(map(_StoredProbe.of, probes))
    content = _StoredProbes(fingerprint=manifest.identity.fingerprint, probes=stored)
    return storage.put_exclusive(PROBES_NAME, dump_document(content))


def read_probes(storage: Storage, manifest: Manifest) -> tuple[Probe, ...]:
    """A store's probes; none where it has no such object. Raises CorruptStoreError where that was changed."""
    if not storage.exists(PROBES_NAME):
        return ()
    where = f"{storage.url}/{PROBES_NAME}"
    found = read_document(storage, PROBES_NAME, _StoredProbes)
    if found.fingerprint != (wanted := manifest.identity.fingerprint):
        raise CorruptStoreError(
            f"{where}: found the fingerprint {found.fingerprint}, wanted {wanted}: it is another store's"
        )
    return tuple(probe.decode(where) for probe in found.probes)
