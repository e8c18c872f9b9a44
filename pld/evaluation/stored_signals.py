"""A store's logits of the images that are evaluated."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Int64
from numpy import ndarray

from pld.images import Source
from pld.signals import TopK
from pld.store import Store


def stored_signals(store: Store, source: Source) -> Callable[[Int64[ndarray, "n"]], TopK]:
    """Look up the stored logits of a source's rows: the store's first view, read now.

    Args:
        store: has one view, the centre crop, of each image.
        source: the images, under the store's keys.
    """
    table, places = store.load_view(0), store.rows(source.keys)
    return lambda rows: table[places[rows]]
