"""A store in the other part format: the same integers under the same fingerprint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pld.errors import ConfigError
from pld.store.documents.commit import read_commit
from pld.store.documents.layout import read_layout
from pld.store.documents.manifest import FormatName, Manifest, read_manifest
from pld.store.documents.probes import read_probes
from pld.store.format.schema import PartRows
from pld.store.objects.open import open_storage
from pld.store.read.chunks import read_keys, read_labels, read_view
from pld.store.write.writer import StoreWriter

# Names, in the provenance of a converted store, the format that it was first written in.
CONVERTED_FROM = "converted_from"


def convert_store(url: str, out: str, format: FormatName, on_views: Callable[[int], object]) -> None:
    """Write all that is committed in one store into another whose parts are of another format.

    Run again after a crash it goes on. Converting back gives the same bytes, store.json's too, with the same versions
    of numcodecs and zlib.

    Args:
        url: the store to read.
        out: the store to write.
        format: the parts' new format.
        on_views: called after each part with its number of sample-views.

    Raises:
        ConfigError: the store has that format.
        StoreError: a store cannot be read or written, or `out` is another store.
    """
    source = open_storage(url)
    held = read_manifest(source)
    if held.format == format:
        raise ConfigError(f"{url}: its parts are in the format {format} already; copy the folder")
    layout = read_layout(source, held)
    wanted = dataclasses.replace(held, format=format, provenance=_provenance(held, format))
    destination = open_storage(out)
    writer = StoreWriter.create(destination, wanted)
    writer.copy_blocks(layout.blocks)
    done = read_layout(destination, writer.manifest).committed
    for part_id in sorted(layout.committed - done):
        commit = read_commit(source, held, part_id)
        rows = PartRows(
            keys=read_keys(source, held, commit),
            labels=read_labels(source, held, commit),
            views=[read_view(source, held, commit, view) for view in part_id.views],
        )
        writer.write_rounded(part_id, rows, commit.skipped, commit.stats)
        on_views(commit.stats.num_rows)
    if probes := read_probes(source, held):
        writer.add_probes(probes)
    writer.seal()


def _provenance(held: Manifest, format: FormatName) -> dict[str, Any]:
    """The same, with the first format; without it where the store returns to that."""
    first = held.provenance.get(CONVERTED_FROM, held.format)
    kept = {name: value for name, value in held.provenance.items() if name != CONVERTED_FROM}
    return kept if first == format else kept | {CONVERTED_FROM: first}
