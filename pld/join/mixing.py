"""Plan which images of a dataset are mixed with each other: those that were when the store was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from pld.errors import DataError, StoreError
from pld.images import Source
from pld.store import Store
from pld.views import MixingPlan, Policy, mix_steps
from pld.views.mixing import Partners
from pld.views.policy_text import parse_policy

# Of the classes that a shard of shuffled images would hold, on average.
_FEW_CLASSES = 0.5
# In a shard of fewer images each has nearly the same partner in every view, and an image alone has none.
_FEW_IMAGES = 4
# Of all images: more of them in such shards are too many.
_MANY = 0.01


def ask_policy(text: str, default: Policy, source: Source, *, default_crop_fraction: float = 0.875) -> Policy:
    """The policy that a text asks for, see `parse_policy`, with partners chosen for the source unless JSON states them.

    Raises:
        ConfigError: as `parse_policy`.
    """
    policy = parse_policy(text, default, default_crop_fraction=default_crop_fraction)
    return policy if states_partners(text) else choose_partners(policy, source)


def states_partners(text: str) -> bool:
    """Whether a policy's text, which `parse_policy` takes, says what images are mixed with; JSON alone can."""
    return '"partners"' in text


def choose_partners(policy: Policy, source: Source) -> Policy:
    """The policy with partners from the same shard, or from the whole dataset where shards hold few classes or images.

    Within a shard reading stays local. Of images sorted by class it would mix each with its like.
    """
    is_unfit = mix_steps(policy) and (_shards_hold_few_images(source) or _shards_hold_few_classes(source))
    partners: Partners = "dataset" if is_unfit else "shard"
    return dataclasses.replace(policy, partners=partners)


def plan_mixing(source: Source, policy: Policy, stores: Sequence[Store] = ()) -> MixingPlan | None:
    """The plan for a source's rows; None where the policy mixes nothing.

    Args:
        source: the images, under the store's keys.
        policy: how its views are drawn.
        stores: of their logits, if some are used: the images of a store's shard are paired as when it was made.

    Raises:
        DataError: there is one image alone, or the images lack some that theirs are mixed with.
        StoreError: the stores mix other images with each other.
    """
    steps = mix_steps(policy)
    if not steps:
        return None
    if len(source) < 2:
        raise DataError(
            f"{source.location}: mixing wants two images or more, found {len(source)}; leave mixing out: --policy light"
        )
    if not stores:
        pools = np.repeat(np.arange(len(source.shards)), source.shard_sizes)
        pools = pools if policy.partners == "shard" else np.zeros_like(pools)
        return MixingPlan(source.keys, pools, steps, seed=policy.seed)
    first = stores[0]
    for store in stores[1:]:
        if different := sorted({*store.skipped} ^ {*first.skipped}):
            raise StoreError(
                f"{store.url}: mixes other images with each other than {first.url}: {len(different)} were skipped in "
                f"one of them alone, the first: {different[0]}; cache both teachers from the same images"
            )
    plan = _stored_plan(first, source, policy)
    for store in stores[1:]:
        if not np.array_equal(_stored_plan(store, source, policy).partners(0), plan.partners(0)):
            raise StoreError(
                f"{store.url}: mixes other images with each other than {first.url}: its shards are others; cache both "
                "teachers from the same shards"
            )
    return plan


def _stored_plan(store: Store, source: Source, policy: Policy) -> MixingPlan:
    held, skipped = store.shard_numbers
    if policy.partners == "dataset":
        held, skipped = np.zeros_like(held), np.zeros_like(skipped)
    rows = store.rows(source.keys)
    pools = held[rows]
    used = np.unique(pools)
    missing = np.isin(held, used)
    missing[rows] = False
    if missing.any():
        key = store.keys[np.flatnonzero(missing)[0]].decode()
        raise DataError(
            f"{source.location}: lacks {int(missing.sum())} images that its own are mixed with in {store.url}, the "
            f"first: {key}; give all images of the shards that were cached, or cache these images alone"
        )
    mine = np.isin(skipped, used)
    skipped_keys = np.array([key.encode() for key in store.skipped], dtype=np.bytes_)[mine]
    left_out = np.r_[np.zeros(len(source), bool), np.ones(len(skipped_keys), bool)]
    keys = np.concatenate([source.keys, skipped_keys]) if len(skipped_keys) else source.keys
    return MixingPlan(keys, np.r_[pools, skipped[mine]], mix_steps(policy), seed=policy.seed, left_out=left_out)


def _shards_hold_few_images(source: Source) -> bool:
    sizes = np.array(source.shard_sizes)
    return len(sizes) > 1 and int(sizes[sizes < _FEW_IMAGES].sum()) > _MANY * len(source)


def _shards_hold_few_classes(source: Source) -> bool:
    sizes = np.array(source.shard_sizes)
    if len(sizes) < 2:
        return False
    if source.labels is None:
        return source.shuffle_window >= len(sizes)
    shard = np.repeat(np.arange(len(sizes)), sizes)
    num_classes = len(np.unique(source.labels))
    found = len(np.unique(shard * (int(source.labels.max()) + 1) + source.labels))
    expected = num_classes * (1 - (1 - 1 / num_classes) ** sizes)
    return bool(found < _FEW_CLASSES * expected.sum())
