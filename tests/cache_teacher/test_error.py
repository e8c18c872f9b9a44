"""`cache-teacher --error`: what is kept, said and refused."""

import re

import numpy as np
import pytest

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from pld.errors import ConfigError
from pld.losses import gradient_error_bound
from pld.store import open_store


def config(world, store, **settings):
    return CacheConfig(
        teacher=f"local-dir:{world / 'teacher'}",
        data=str(world / "data"),
        store=str(store),
        views=2,
        threads=1,
        allow_wrong_labels=True,  # of a teacher that was never trained
        **settings,
    )


def test_views_keep_the_error_and_those_that_do_not_are_counted(world, tmp_path, capsys, console):
    # Of a teacher that was never trained all classes are alike: k = 3 is too few for most, and 10 for none.
    for k in (3, 10):
        cache(config(world, tmp_path / str(k), k=k, error=1.0))
        store, said = open_store(tmp_path / str(k)), capsys.readouterr()
        topk = store.load_view(1)[np.arange(store.num_samples)]
        over = gradient_error_bound(topk) > 1.0
        assert bool((topk.counts[over] == k).all())
        assert f"{store.stats.most_listed} at most" in said.out
        warned = re.search(r"(\d+) of (\d+) views .* have an error above 1: their top 3 are too few", said.err)
        assert bool(warned) == (store.stats.num_over_error > 0) == (k == 3)
    assert store.manifest.identity.codec.error == 1.0


@pytest.mark.parametrize("error", [0.0, 2.0, -0.5, float("nan")])
def test_an_error_that_is_none_is_refused(world, tmp_path, error):
    with pytest.raises(ConfigError, match=r"error.*above 0 and below 2"):
        config(world, tmp_path / "s", error=error)


def test_an_error_below_the_grids_is_refused_before_anything_is_written(world, tmp_path):
    with pytest.raises(ConfigError, match=r"more than 0.003984, which rounding to the store's grid costs alone"):
        cache(config(world, tmp_path / "s", k=5, error=0.003))
    assert not (tmp_path / "s").exists()
