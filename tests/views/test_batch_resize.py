"""Many images resized at once are what `apply_view` makes of each."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pld.views import View, apply_view, batch_resize
from pld.views.batch_resize import apply_views


def images_and_views(seed: int, num: int, longest: int) -> tuple[list[torch.Tensor], list[View]]:
    rng = np.random.default_rng(seed)
    images, views = [], []
    for _ in range(num):
        height, width = rng.integers(1, longest, 2).tolist()
        images.append(torch.from_numpy(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).permute(2, 0, 1))
        crop_height, crop_width = rng.integers(1, height + 1), rng.integers(1, width + 1)
        top, left = rng.integers(0, height - crop_height + 1), rng.integers(0, width - crop_width + 1)
        views.append(View(*map(int, (top, left, crop_height, crop_width)), bool(rng.integers(2))))
    return images, views


@given(st.integers(0, 2**32), st.sampled_from(["bilinear", "bicubic"]), st.sampled_from([(1, 1), (7, 5), (40, 64)]))
def test_as_each_alone(seed, interpolation, size):
    """Single images have integer weights: a step off, of noise rarely two."""
    images, views = images_and_views(seed, 6, 90)
    found = apply_views(images, views, size, interpolation)
    wanted = torch.stack([apply_view(i, v, size, interpolation) for i, v in zip(images, views, strict=True)])
    assert found.shape == wanted.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    off = (found.int() - wanted.int()).abs()
    assert off.max() <= 2
    assert (off > 1).float().mean() <= 0.01


def test_large_crops_are_worked_on_in_smaller_groups(monkeypatch):
    images, views = images_and_views(0, 40, 120)
    together = apply_views(images, views, (32, 32), "bicubic")
    monkeypatch.setattr(batch_resize, "_PADDED_PIXELS", 30_000)
    groups = batch_resize._group_by_size(views)
    assert len(groups) > 5
    assert sorted(itertools.chain.from_iterable(groups)) == list(range(40))
    for group in groups:
        height, width = (max(getattr(views[i], side) for i in group) for side in ("height", "width"))
        assert len(group) * height * width <= 30_000 or len(group) == 1
    assert torch.equal(apply_views(images, views, (32, 32), "bicubic"), together)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_flat_image_stays_flat(interpolation):
    flat = torch.full((3, 33, 57), 201, dtype=torch.uint8)
    views = [View(2, 3, 20, 50, True), View(0, 0, 33, 57, False)]
    assert (apply_views([flat, flat], views, (64, 21), interpolation) == 201).all()
