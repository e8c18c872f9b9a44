"""Several stores over the same views, read together: one teacher of them for each sample and view, or their average."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from pld.errors import ConfigError, FingerprintMismatchError
from pld.randomness import choice
from pld.signals import TopK, with_tensors
from pld.store.documents.manifest import differences, short
from pld.store.format.canonical import canonical_json, sha256_hex
from pld.store.format.samples import Keys
from pld.store.read.averaging import average, common_temperatures
from pld.store.read.reader import Store, open_store
from pld.store.read.table import LogitTable, Rows, row_numbers

Combine = Literal["average", "pick"]
GroupRows = Sequence[Rows] | Integer[np.ndarray, "M B"] | Integer[Tensor, "M B"]
"""Row numbers in each of M stores, as `StoreGroup.rows` gives them; a list of lists will do."""


def open_stores(urls: Sequence[str], combine: Combine = "average", seed: int = 0) -> StoreGroup:
    """Open stores of several teachers over the same views of the same dataset; of one alone, as it is.

    Args:
        urls: at least one.
        combine: "average" ranks the mean of the teachers' probabilities, see `averaging.average`; "pick" takes one
            teacher for each (sample, view), by a hash of (seed, key, view).
        seed: of "pick".

    Raises:
        FingerprintMismatchError: the views, the dataset or the label space differ; names the fields.
        StoreError: a store cannot be read.
        ConfigError: no stores, or no such way to combine them.
    """
    if isinstance(urls, str) or not urls:
        raise ConfigError(f"found {urls!r}, wanted a list of at least one store")
    if combine not in get_args(Combine):
        raise ConfigError(f"combine = {combine!r}: wanted one of {', '.join(get_args(Combine))}")
    members = tuple(map(open_store, urls))
    for other in members[1:]:
        _check_same_views(members[0], other)
    return StoreGroup(members, combine, seed)


class StoreGroup:
    """Compatible stores, read as one; made by `open_stores`."""

    def __init__(self, members: tuple[Store, ...], combine: Combine, seed: int) -> None:
        self.members = members
        self.combine: Combine = combine
        self.seed = seed

    @property
    def url(self) -> str:
        """All members' places, for messages."""
        return " + ".join(member.url for member in self.members)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A single member's own, else the sha256 of all members' in their order and of how they are combined."""
        fingerprints = [member.manifest.identity.fingerprint for member in self.members]
        if len(fingerprints) == 1:
            return fingerprints[0]
        seed = {"seed": self.seed} if self.combine == "pick" else {}
        return sha256_hex(canonical_json({"combine": self.combine, "stores": fingerprints, **seed}))

    @property
    def num_classes(self) -> int:
        """C of all teachers."""
        return self.members[0].manifest.identity.teacher.num_classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The label space, where a member states it."""
        stated = (member.manifest.identity.dataset.class_names for member in self.members)
        return next((names for names in stated if names is not None), None)

    @property
    def k(self) -> int:
        """Classes of a sample's signal: the least that a member holds."""
        return min(member.manifest.identity.codec.k for member in self.members)

    @property
    def holds_all(self) -> bool:
        """Whether every row of every member lists every class, so that there is no tail."""
        return all(member.manifest.identity.codec.holds_all(self.num_classes) for member in self.members)

    @property
    def error(self) -> float | None:
        """What error the classes of each sample were chosen for, the largest of the members'; None if k were kept."""
        errors = [member.manifest.identity.codec.error for member in self.members]
        return max((error for error in errors if error is not None), default=None)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those of a sample's signal: what all members hold; of an average of truncated teachers T = 1 alone."""
        if self.combine == "average" and len(self.members) > 1 and not self.holds_all:
            return (1.0,)
        return common_temperatures([member.manifest.identity.codec.temperatures for member in self.members])

    @property
    def tail_samples(self) -> int:
        """Classes drawn from a sample's tail; 0 where several stores are combined, whose signals hold none."""
        return self.members[0].manifest.identity.codec.tail_samples if len(self.members) == 1 else 0

    def tail_error(self, temperature: float) -> float:
        """How far KD's gradient from one view's sampled tail is off, over its length, L2; nan where not known."""
        member = self.members[0]
        errors = zip(member.manifest.identity.codec.temperatures, member.stats.relative_tail_errors, strict=False)
        return dict(errors).get(temperature, math.nan) if self.tail_samples else math.nan

    @property
    def is_labelled(self) -> bool:
        """Whether the images of all members have labels, or of none: `open_stores` checks."""
        return self.members[0].is_labelled

    @property
    def num_views(self) -> int:
        """How many views from view 0 on are complete in all members."""
        return min(member.num_views for member in self.members)

    @property
    def num_samples(self) -> int:
        """Rows of the first member; others may have skipped other samples."""
        return self.members[0].num_samples

    @property
    def num_bytes(self) -> int:
        """Of all members."""
        return sum(member.num_bytes for member in self.members)

    def rows(self, keys: Keys) -> Int64[np.ndarray, "M N"]:
        """The rows of keys in each of M members; raises NotCachedError where one does not hold a key."""
        return np.stack([member.rows(keys) for member in self.members])

    def load_view(self, view: int) -> GroupTable:
        """One view of all members in memory; raises as `Store.load_view` does."""
        k = self.k if self.combine == "pick" else None
        return GroupTable(view=view, group=self, tables=tuple(member.load_view(view, k) for member in self.members))


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupTable:
    """One view of all of a group's members; `table[group.rows(keys)]` combines a batch.

    A sample's row may be another in each member, so that rows are [M, B]; of a group of one store [B] will do.

    Attributes:
        view: the view's index.
        group: whose view it is.
        tables: one of each member.
    """

    view: int
    group: StoreGroup
    tables: tuple[LogitTable, ...]

    def __getitem__(self, rows: GroupRows | Rows) -> TopK:
        """The signal of these rows, in their order.

        Raises:
            TypeError: these are no row numbers, or not those of each store.
            IndexError: there is no such row.
            SignalError: the rows are those of other samples in one store than in another.
        """
        numbers = row_numbers(rows)
        if numbers.ndim == 1 and len(self.tables) == 1:
            numbers = numbers[None]
        if numbers.ndim != 2 or len(numbers) != len(self.tables):
            raise TypeError(
                f"rows: found shape {list(numbers.shape)}, wanted [{len(self.tables)}, B], rows in each of "
                f"{len(self.tables)} stores; StoreGroup.rows(keys) gives them"
            )
        if len(self.tables) == 1:
            return self.tables[0][numbers[0]]
        if self.group.combine == "pick":
            return self._pick(numbers)
        return average([table[own] for table, own in zip(self.tables, numbers, strict=True)], self.group.num_classes)

    def _pick(self, rows: Int64[np.ndarray, "M B"]) -> TopK:
        keys = self.group.members[0].keys[rows[0]].tolist()
        chosen = picks(keys, self.view, len(self.tables), self.group.seed)
        places = [np.flatnonzero(chosen == member) for member in range(len(self.tables))]
        # A sample says nothing of another teacher's tail, or of the larger tail of fewer classes.
        topks = [
            _at_temperatures(table[own[place]], self.group.temperatures)
            for table, own, place in zip(self.tables, rows, places, strict=True)
        ]
        back = torch.from_numpy(np.argsort(np.concatenate(places)))
        if any(topk.counts is not None for topk in topks):
            topks = [topk if topk.counts is not None else _counted(topk) for topk in topks]
        joined = with_tensors(topks, lambda *tensors: torch.cat(tensors)[back])
        return dataclasses.replace(joined, logprob_error=max(topk.logprob_error for topk in topks))


def picks(keys: Sequence[bytes], view: int, num_teachers: int, seed: int) -> Int64[np.ndarray, "B"]:
    """Which of 0..num_teachers-1 serves each sample's view, as a pure function of seed, key and view."""
    chosen = [choice(num_teachers, f"teacher/{seed}/{view}/{key.decode()}") for key in keys]
    return np.array(chosen, dtype=np.int64)


def _at_temperatures(topk: TopK, wanted: tuple[float, ...]) -> TopK:
    columns = [topk.temperatures.index(t) for t in wanted]
    return dataclasses.replace(topk, tail_sample=None, tail_logmass=topk.tail_logmass[:, columns], temperatures=wanted)


def _counted(topk: TopK) -> TopK:
    """The same, with counts that say that every row lists k."""
    return dataclasses.replace(topk, counts=torch.full_like(topk.classes[:, 0], topk.k))


def _check_same_views(store: Store, other: Store) -> None:
    """Raise FingerprintMismatchError, naming them, where fields differ that all teachers of a student must share."""
    ours, theirs = _shared_settings(store), _shared_settings(other)
    if None in (ours["class_names"], theirs["class_names"]):
        ours["class_names"] = theirs["class_names"] = None
    found = list(differences(ours, theirs))
    if found:
        shown = "; ".join(f"{name} {short(a)}, not {short(b)}" for name, a, b in found)
        raise FingerprintMismatchError(
            f"{other.url}: cannot be read together with {store.url}, which has {shown}. Cache both teachers with the "
            "same data and the same --policy, --view_seed and --decoder, and both or neither with --unlabelled"
        )


def _shared_settings(store: Store) -> dict[str, Any]:
    identity = store.manifest.identity.to_json()
    dataset = identity["dataset"]
    return {
        "views": identity["views"],
        "dataset": {name: dataset[name] for name in ("digest", "num_samples")},
        "labelled": store.is_labelled,
        "num_classes": identity["teacher"]["num_classes"],
        "class_names": dataset["class_names"],
    }
