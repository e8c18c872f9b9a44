"""Mixing: which image another is mixed with, and in what share; a pure function of seed, keys and view index.

Images of a pool are paired at random, so that each is the larger part of exactly one mixed image of a view and the
smaller part of one. The share is drawn as timm draws it; where the image's own would be below one half, the two swap
their places, so that the label with the larger share is always the sample's own. The set of mixed images is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64, Shaped, UInt64
from numpy import ndarray

from pld.errors import ConfigError
from pld.randomness import hash_texts, mixed_bits

UNMIXED, BLENDED, PARTNER_IN_BOX, OWN_IN_BOX = range(4)
_MIN_ALPHA, _MAX_ALPHA = 0.01, 2.0  # below, nearly all of Jöhnk's tries underflow to 0
_SHARE_STEPS = 2**16  # coarser than what a machine's pow may round otherwise
# Index of the first random number of each draw.
_REMEMBERED = 4  # views, 8 bytes for each sample
_PAIRING, _KIND, _CENTRE, _SHARE = 0, 1, 2, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixup:
    """Blend two images, pixel by pixel, with a share from Beta(alpha, alpha) (Zhang et al. 2018, arXiv:1710.09412)."""

    name: ClassVar[str] = "mixup"
    alpha: float = 0.8

    def __post_init__(self) -> None:
        _check_alpha(self.name, self.alpha)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutMix:
    """Paste a box of one image into another (Yun et al. 2019, arXiv:1905.04899).

    The box has the image's aspect ratio, an area of 1 - lambda with lambda from Beta(alpha, alpha), a uniform centre,
    and is cut at the border. The share follows from what is left of it.
    """

    name: ClassVar[str] = "cutmix"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha(self.name, self.alpha)


MixStep = Mixup | CutMix
Partners = Literal["shard", "dataset"]
"""Which images are paired: those of one image shard, or all, where a shard holds few classes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Mixing:
    """How some samples' views are mixed; all arrays have the same leading shape.

    Attributes:
        partners: int64 [...], the row of the other image; the sample's own where it stays unmixed.
        shares: float64 [...], of the sample's own image, 0.5 to 1; 1 where it stays unmixed.
        kinds: int8 [...], UNMIXED, BLENDED, PARTNER_IN_BOX or OWN_IN_BOX.
        boxes: float64 [..., 4], top, left, bottom and right as fractions of the view's sides; zeros without a box.
    """

    partners: Int64[ndarray, "..."]
    shares: Float64[ndarray, "..."]
    kinds: Int8[ndarray, "..."]
    boxes: Float64[ndarray, "... 4"]

    def __getitem__(self, index: object) -> Mixing:
        """Some of these, by an index of the leading axes."""
        return Mixing(*(np.asarray(getattr(self, field.name)[index]) for field in dataclasses.fields(self)))

    @classmethod
    def stack(cls, views: Sequence[Mixing]) -> Mixing:
        """Views of the same rows side by side: [n] each become [n, V]."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.stack([getattr(view, name) for view in views], axis=1) for name in names))


class MixingPlan:
    """Who is mixed with whom, for any view of a dataset."""

    def __init__(
        self,
        keys: Shaped[ndarray, "N"],
        pools: Int64[ndarray, "N"],
        steps: Sequence[MixStep],
        *,
        seed: int,
        left_out: Bool[ndarray, "N"] | None = None,
    ) -> None:
        """Plan for samples with these keys.

        Args:
            keys: bytes [N] (NumPy `S`, UTF-8), distinct.
            pools: int64 [N]; samples with the same number are paired with each other.
            steps: Mixup, CutMix or both, of which each sample then gets one at random, as timm's switch does.
            seed: the view seed.
            left_out: bool [N], images that cannot be decoded; what would be mixed with one stays unmixed.
        """
        self._hashes, self._pools, self._seed, self._left_out = hash_texts(keys), pools, seed, left_out
        self._steps = tuple(steps)
        self._known: dict[int, Int64[ndarray, "N"]] = {}

    def partners(self, view_index: int) -> Int64[ndarray, "N"]:
        """The row of each sample's partner in a view: its own where it has none. The last views' are remembered."""
        if view_index not in self._known:
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[view_index] = self._pair(view_index)
        return self._known[view_index]

    def _pair(self, view_index: int) -> Int64[ndarray, "N"]:
        bits = mixed_bits(self._hashes, self._identity(view_index), _PAIRING)
        order = np.lexsort((bits, self._pools))
        pools = self._pools[order]
        first = np.flatnonzero(np.r_[True, pools[1:] != pools[:-1]][: len(pools)])
        size = np.diff(np.r_[first, len(pools)])
        place, size = np.arange(len(pools)) - np.repeat(first, size), np.repeat(size, size)
        # Pairs; the last three of an odd number go round.
        shift = np.where(place % 2, -1, 1)
        last_three = (size % 2 == 1) & (place >= size - 3)
        shift = np.where(last_three, np.where(place == size - 1, -2, 1), shift)
        shift[size == 1] = 0
        partners = np.empty(len(order), np.int64)
        partners[order] = order[np.arange(len(order)) + shift]
        if self._left_out is not None:
            partners = np.where(self._left_out[partners], np.arange(len(order)), partners)
        return partners

    def mixing(self, view_index: int, rows: Int64[ndarray, "n"], partners: Int64[ndarray, "N"] | None = None) -> Mixing:
        """How some rows' views are mixed; `partners` are those of the view, if they are known already."""
        partners = (self.partners(view_index) if partners is None else partners)[rows]
        hashes, identity = self._hashes[rows], self._identity(view_index)
        step = np.zeros(len(rows), np.int64)
        if len(self._steps) > 1:
            step = (mixed_bits(hashes, identity, _KIND) >> np.uint64(63)).astype(np.int64)
        alphas = np.array([each.alpha for each in self._steps])[step]
        is_cut = np.array([isinstance(each, CutMix) for each in self._steps])[step]
        share = _beta(hashes, identity, alphas)
        boxes, cut_share = _boxes(hashes, identity, share)
        share = np.where(is_cut, cut_share, share)
        swap = share < 0.5
        kinds = np.where(is_cut, np.where(swap, OWN_IN_BOX, PARTNER_IN_BOX), BLENDED).astype(np.int8)
        alone = partners == rows
        return Mixing(
            partners=partners,
            shares=np.where(alone, 1.0, np.where(swap, 1 - share, share)),
            kinds=np.where(alone, UNMIXED, kinds).astype(np.int8),
            boxes=np.where((alone | ~is_cut)[:, None], 0.0, boxes),
        )

    def _identity(self, view_index: int) -> str:
        return f"mix:{self._seed}/{view_index}"


def _check_alpha(name: str, alpha: float) -> None:
    if not _MIN_ALPHA <= alpha <= _MAX_ALPHA:
        raise ConfigError(f"view policy: {name}'s alpha {alpha:g}; wanted {_MIN_ALPHA:g} to {_MAX_ALPHA:g}")


def _uniform(hashes: UInt64[ndarray, "n"], identity: str, number: int) -> Float64[ndarray, "n"]:
    return (mixed_bits(hashes, identity, number) >> np.uint64(11)) * 2.0**-53


def _beta(hashes: UInt64[ndarray, "n"], identity: str, alphas: Float64[ndarray, "n"]) -> Float64[ndarray, "n"]:
    """Beta(alpha, alpha), rounded to 1 / 65,536: Jöhnk's method, by rejection, exact for any alpha (Jöhnk 1964)."""
    share = np.empty(len(hashes))
    pending, number = np.arange(len(hashes)), _SHARE
    while len(pending):
        x, y = (_uniform(hashes[pending], identity, number + i) ** (1 / alphas[pending]) for i in (0, 1))
        total = x + y
        # Tiny powers may both be 0.
        accepted = (total <= 1) & (total > 0)
        share[pending[accepted]] = x[accepted] / total[accepted]
        pending, number = pending[~accepted], number + 2
    return np.rint(share * _SHARE_STEPS) / _SHARE_STEPS


def _boxes(
    hashes: UInt64[ndarray, "n"], identity: str, share: Float64[ndarray, "n"]
) -> tuple[Float64[ndarray, "n 4"], Float64[ndarray, "n"]]:
    """Boxes of area 1 - share before they are cut at the border, and the share that they leave."""
    half = np.sqrt(1 - share) / 2
    y, x = (_uniform(hashes, identity, _CENTRE + i) for i in (0, 1))
    boxes = np.stack([y - half, x - half, y + half, x + half], axis=1).clip(0, 1)
    return boxes, 1 - (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
