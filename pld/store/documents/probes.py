"""Pixel probes: a few small views kept beside the logits. What is in them, and what they prove, is their reader's.

They are no part of the identity: the store is the same without them, and made before there were any it has none.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pld.errors import CorruptStoreError
from pld.store.documents.layout import SMALL_MAX_BYTES
from pld.store.documents.manifest import Manifest
from pld.store.format.canonical import dump_document, load_document
from pld.store.format.fields import SHA256, Fields
from pld.store.format.plan import MAX_VIEWS
from pld.store.objects.storage import Storage

PROBES_NAME = "probes.json"
_MAX_SIDE = 32
_MAX_IMAGE_SIDE = 2**31 - 1


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


def write_probes(storage: Storage, manifest: Manifest, probes: Sequence[Probe]) -> bool:
    """Keep probes, unless the store has some; whether this call did. Raises StoreError."""
    content = {
        "fingerprint": manifest.identity.fingerprint,
        "probes": [
            {
                "key": probe.key,
                "view": probe.view,
                "size": probe.pixels.shape[1:],
                "pixels": base64.b64encode(np.ascontiguousarray(probe.pixels).tobytes()).decode(),
                **({} if probe.image_size is None else {"image_size": probe.image_size}),
            }
            for probe in probes
        ],
    }
    return storage.put_exclusive(PROBES_NAME, dump_document(content))


def read_probes(storage: Storage, manifest: Manifest) -> tuple[Probe, ...]:
    """A store's probes; none where it has no such object. Raises CorruptStoreError where that was changed."""
    if not storage.exists(PROBES_NAME):
        return ()
    where = f"{storage.url}/{PROBES_NAME}"
    fields = Fields(load_document(storage.read(PROBES_NAME, SMALL_MAX_BYTES), where), where)
    if (found := fields.text("fingerprint", SHA256)) != (wanted := manifest.identity.fingerprint):
        raise CorruptStoreError(f"{where}: found the fingerprint {found}, wanted {wanted}: it is another store's")
    probes = tuple(_probe(value, where) for value in fields.items("probes"))
    fields.done()
    return probes


def _probe(value: Any, where: str) -> Probe:
    fields = Fields(value, f"{where}: probe")
    height, width = fields.integers("size", 1, _MAX_SIDE, count=2)
    shape = (3, height, width)
    try:
        data = base64.b64decode(fields.text("pixels"), validate=True)
    except (binascii.Error, ValueError):
        raise CorruptStoreError(f"{where}: found pixels that are not base64") from None
    if len(data) != math.prod(shape):
        raise CorruptStoreError(f"{where}: found {len(data)} bytes of pixels, wanted {math.prod(shape)}")
    probe = Probe(
        key=fields.text("key"),
        view=fields.integer("view", 0, MAX_VIEWS),
        pixels=np.frombuffer(data, np.uint8).reshape(shape),
        image_size=_image_size(fields),
    )
    fields.done()
    return probe


def _image_size(fields: Fields) -> tuple[int, int] | None:
    if not fields.has("image_size"):
        return None
    height, width = fields.integers("image_size", 1, _MAX_IMAGE_SIDE, count=2)
    return height, width
