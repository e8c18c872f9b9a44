"""How a run's views are drawn, how many there are, and what they are mixed with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from pld.errors import ConfigError, NotCachedError
from pld.images import Source
from pld.join.match import stored_policy
from pld.join.mixing import ask_policy, choose_partners, plan_mixing, states_partners
from pld.store import Store, StoreGroup
from pld.views import Fixed, MixingPlan, Policy, mix_steps, policy_to_json
from pld.views.policy_text import parse_policy


def choose_policy(text: str | None, source: Source, stores: Sequence[Store], seed: int) -> Policy:
    """The stores' policy; without stores the one that is asked for, else the dataset's own.

    Args:
        text: --policy.
        source: the training images.
        stores: of the teachers' logits; they have one policy.
        seed: of the views where there is no store.

    Raises:
        ConfigError: the text names no policy, or another than the stores'.
    """
    own: Policy = dataclasses.replace(source.policy, seed=seed)
    if stores:
        return check_policy(text, own, stores[0])
    return ask_policy(text, own, source) if text else choose_partners(own, source)


def check_policy(text: str | None, own: Policy, store: Store) -> Policy:
    """The store's policy.

    Args:
        text: --policy.
        own: the dataset's own policy.
        store: of the teacher's logits.

    Raises:
        ConfigError: the text names no policy, or another than the store's.
    """
    stored = stored_policy(store)
    if text is None:
        return stored
    crop_fraction = stored.crop_fraction if isinstance(stored, Fixed) else Fixed.crop_fraction
    asked = parse_policy(text, own, default_crop_fraction=crop_fraction)
    if not states_partners(text):
        asked = dataclasses.replace(asked, partners=stored.partners)
    if dataclasses.replace(asked, seed=stored.seed) != stored:
        raise ConfigError(
            f"--policy {text}: {store.url} holds logits of other views. Asked for: {_described(asked)}; the store's: "
            f"{_described(stored)}. Leave --policy out to train on the store's views, or give a store that was cached "
            f"with this policy: make cache POLICY='{text}'"
        )
    return stored


def plan_training(
    source: Source, policy: Policy, stores: Sequence[Store], val_share: float | None
) -> MixingPlan | None:
    """What the images are mixed with; None where the policy mixes nothing.

    Raises:
        ConfigError: images are held out of a store that mixes them with the others.
        DataError, StoreError: as `plan_mixing`.
    """
    if stores and val_share is not None and mix_steps(policy):
        raise ConfigError(
            f"--val_share {val_share}: {stores[0].url} mixes the images that would be held out with those to train "
            "on. Name validation images with --val_data, or go without: --val_data none"
        )
    return plan_mixing(source, policy, stores)


def count_views(wanted: int | None, views_per_image: int, policy: Policy, store: StoreGroup | None) -> int | None:
    """How many views to cycle through; None draws new ones each epoch.

    Raises:
        NotCachedError: the store holds fewer than wanted.
        ConfigError: there are fewer than a batch has of each image.
    """
    if store and wanted and wanted > store.num_views:
        raise NotCachedError(
            f"{store.url}: holds views 0..{store.num_views - 1}; --views {wanted} wants 0..{wanted - 1}: "
            f"make cache VIEWS={wanted} adds them"
        )
    num_views = wanted or (store.num_views if store else None)
    if num_views is not None and views_per_image > num_views:
        held = f"{store.url} holds {store.num_views} views" if store and not wanted else f"--views {wanted}"
        raise ConfigError(
            f"--views_per_image {views_per_image}: {held}, and those of a batch are distinct; give at most {num_views}"
            + (
                ", or raise --views"
                if wanted
                else f", or cache more by the store's command with VIEWS={views_per_image}"
            )
        )
    if views_per_image > 1 and isinstance(policy, Fixed) and not policy.steps:
        raise ConfigError(
            f"--views_per_image {views_per_image}: the policy is one fixed view of each image; leave it out"
        )
    return num_views


def _described(policy: Policy) -> str:
    return json.dumps(
        {name: value for name, value in policy_to_json(policy).items() if name not in ("seed", "partners")}
    )
