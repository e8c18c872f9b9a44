"""A source of images and a store of logits that belong together."""

from __future__ import annotations

import numpy as np

from pld.errors import DataError, StoreError
from pld.images import Source
from pld.store import Store
from pld.views import DRAWING_VERSION, Policy, policy_from_json


def paired(store: Store, source: Source, *, skip_missing: bool = False) -> Source:
    """The source without the images that the store had to skip.

    Args:
        store: the teacher's logits.
        source: the images.
        skip_missing: leave out the images whose keys the store does not hold, too.

    Raises:
        DataError: another label space, or other labels.
        NotCachedError: a key that the store does not hold.
    """
    check_class_names(store.manifest.identity.dataset.class_names, store.url, source)
    skipped = np.array([key.encode() for key in store.skipped], dtype=np.bytes_)
    if len(skipped):
        source = source.subset(~np.isin(source.keys, skipped))
    if skip_missing:
        source = source.subset(np.isin(source.keys, store.keys))
    different = np.flatnonzero(store.labels[store.rows(source.keys)] != source.labels)
    if len(different):
        row = int(different[0])
        raise DataError(
            f"{source.location}: {len(different)} of {len(source)} labels are not those of {store.url}, "
            f"the first: sample {source.key(row)} has {source.labels[row]}"
        )
    return source


def check_class_names(names: tuple[str, ...] | None, whose: str, source: Source) -> None:
    """Raise DataError where both state their classes and these differ: the labels would mean something else."""
    if names is None or source.class_names is None or names == source.class_names:
        return
    first = next((pair for pair in zip(names, source.class_names, strict=False) if pair[0] != pair[1]), None)
    differ = f"the first that differs: {first[0]!r}, here {first[1]!r}" if first else "their numbers differ"
    raise DataError(
        f"{source.location}: {len(source.class_names)} classes, {whose} has {len(names)}; {differ}. "
        "Both must have the same class folders, or the same class_names in dataset.json"
    )


def stored_policy(store: Store) -> Policy:
    """How the store's views are drawn; raises StoreError if this package draws them differently."""
    views = store.manifest.identity.views
    if views.drawing_version != DRAWING_VERSION:
        raise StoreError(
            f"{store.url}: its views were drawn by version {views.drawing_version}, this package draws "
            f"{DRAWING_VERSION}; install the package that wrote it, or cache again"
        )
    return policy_from_json({**views.policy, "seed": views.seed})
