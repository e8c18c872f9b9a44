"""Agreement of a teacher's rankings between views of one image."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from pld.store import Store

_RANKS = 10
_VIEWS = 8
_SAMPLES = 5_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankAgreement:
    """Over pairs of views of the same sample, for r = 1..R.

    Attributes:
        same: share of pairs whose r most probable classes are the same set.
        overlap: mean share of r classes that both have among their r most probable.
        num_samples: samples looked at.
        views: the views that were compared, each with each.
    """

    same: Float64[ndarray, "R"]
    overlap: Float64[ndarray, "R"]
    num_samples: int
    views: tuple[int, ...]


def rank_agreement(classes: Int64[ndarray, "V N R"]) -> tuple[Float64[ndarray, "R"], Float64[ndarray, "R"]]:
    """`RankAgreement.same` and `RankAgreement.overlap` of the classes of V >= 2 views, most probable first."""
    ranks = np.arange(1, classes.shape[2] + 1)
    common = np.stack([_common(a, b) for a, b in itertools.combinations(classes, 2)])
    return (common == ranks).mean(axis=(0, 1)), (common / ranks).mean(axis=(0, 1))


def measure_agreement(store: Store, *, seed: int = 0) -> RankAgreement | None:
    """Compare up to 8 views, evenly chosen, of up to 5,000 samples; None where there is one view alone.

    Ranks are those that all rows list: in a store with an error some may list one class.
    """
    views = np.unique(np.linspace(0, store.num_views - 1, _VIEWS).round().astype(int)).tolist()
    if len(views) < 2:
        return None
    rows = np.sort(np.random.default_rng(seed).permutation(store.num_samples)[:_SAMPLES])
    k = min(_RANKS, store.manifest.identity.codec.k)
    topks = [store.load_view(view, k)[rows] for view in views]
    if store.manifest.identity.codec.error is not None:
        k = min(int(topk.listed.sum(dim=1).min()) for topk in topks)
    classes = np.stack([topk.classes[:, :k].numpy() for topk in topks])
    same, overlap = rank_agreement(classes)
    return RankAgreement(same=same, overlap=overlap, num_samples=len(rows), views=tuple(views))


def _common(a: Int64[ndarray, "N R"], b: Int64[ndarray, "N R"]) -> Int64[ndarray, "N R"]:
    """How many of the first r classes of both are the same, for each r."""
    within = (a[:, :, None] == b[:, None, :]).cumsum(axis=1).cumsum(axis=2)
    return np.diagonal(within, axis1=1, axis2=2)
