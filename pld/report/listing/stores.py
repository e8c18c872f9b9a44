"""A store as a row, from its manifest and the names of its objects: no commit and no part is read."""

from __future__ import annotations

from pld.errors import PLDError
from pld.report.listing.find import Place
from pld.report.listing.text import one_line, unreadable
from pld.report.quantities import bytes_text
from pld.store import CodecIdentity, Manifest
from pld.store.documents.layout import Layout, read_layout
from pld.store.documents.manifest import read_manifest
from pld.store.objects.open import open_storage

STORE_COLUMNS = ("store", "teacher", "images", "classes", "views", "k", "size", "state")


def store_row(place: Place) -> tuple[str, ...]:
    """A row of STORE_COLUMNS; what is damaged is described as far as it can be read."""
    teacher = images = classes = views = k = size = "-"
    try:
        storage = open_storage(place.url)
        manifest = read_manifest(storage)
        identity = manifest.identity
        teacher, images = one_line(identity.teacher.full_name), f"{identity.dataset.num_samples:,}"
        classes, k = f"{identity.teacher.num_classes}", _kept(identity.codec)
        size = bytes_text(sum(storage.sizes("").values()))
        layout = read_layout(storage, manifest)
        planned = layout.blocks[-1].last + 1 if layout.blocks else 0
        views, state = f"{_complete(layout, manifest)} of {planned}", _state(layout, manifest)
    except (PLDError, OSError) as error:
        state = unreadable(error, place.url)
    return one_line(place.name), teacher, images, classes, views, k, size, state


def _kept(codec: CodecIdentity) -> str:
    """The classes that a view lists: 50, <=50 where an error says how many, 10+8 with 8 drawn from the tail."""
    return (
        ("" if codec.error is None else "<=") + f"{codec.k}" + (f"+{codec.tail_samples}" if codec.tail_samples else "")
    )


def _complete(layout: Layout, manifest: Manifest) -> int:
    """How many views from view 0 on are complete."""
    complete = 0
    for block in layout.blocks:
        if layout.missing(block, manifest):
            break
        complete = block.last + 1
    return complete


def _state(layout: Layout, manifest: Manifest) -> str:
    missing = {block: len(layout.missing(block, manifest)) for block in layout.blocks}
    parts = len(missing) * len(manifest.shards)
    if lost := sum(missing[block] for block in layout.sealed):
        return f"damaged: {lost} of {parts} parts are lost; pld verify names them"
    if not missing:
        return "empty: no views yet"
    if total := sum(missing.values()):
        return f"{total} of {parts} parts missing"
    return "complete"
