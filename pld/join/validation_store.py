"""Match validation images with a store of their centre crops."""

from __future__ import annotations

from pld.errors import StoreError
from pld.images import Source
from pld.join.match import join_source, stored_policy
from pld.join.pixel_probes import compare_probes
from pld.store import Store
from pld.views import Fixed

ADVICE = "cache one of these images with SPLIT=val POLICY=fixed VIEWS=1, or leave {option} out"


def join_validation(store: Store, source: Source, option: str) -> Source:
    """The images under the store's keys and in its label space.

    Args:
        store: of centre crops.
        source: the images.
        option: the option that names the store, for messages.

    Raises:
        DataError: the label space or labels are others than the store's.
        StoreError: the store lacks images, has random views or views with steps, or was made of other pixels.
    """
    advice = ADVICE.format(option=option)
    policy = stored_policy(store)
    if not isinstance(policy, Fixed):
        raise StoreError(f"{store.url}: its views are random crops, and validation crops the centre; {advice}")
    if policy.steps:
        names = ", ".join(step.name for step in policy.steps)
        raise StoreError(f"{store.url}: its views have {names}, and validation only crops the centre; {advice}")
    found = join_source(store, source, skip_missing=True)
    if len(found) < len(source):
        raise StoreError(
            f"{store.url}: lacks {len(source) - len(found)} of the {len(source)} images of {source.location}; {advice}"
        )
    return found.with_notes(compare_probes(store.probes, found, policy, store.url))
