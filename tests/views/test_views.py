import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pld.errors import ConfigError
from pld.randomness import philox, raw_bits
from pld.views import Fixed, RandomResizedCrop, View, apply_view, draw_view, policy_from_json, policy_to_json

GOLDEN = Path(__file__).parents[1] / "golden" / "views.json"

sizes = st.tuples(st.integers(1, 600), st.integers(1, 600))
policies = st.builds(
    RandomResizedCrop,
    scale=st.sampled_from([(0.08, 1.0), (0.35, 1.0), (1.0, 1.0)]),
    ratio=st.sampled_from([(3 / 4, 4 / 3), (1.0, 1.0)]),
    flip=st.booleans(),
    seed=st.integers(0, 2**63),
) | st.builds(Fixed, crop_fraction=st.floats(0.01, 1.0))


@given(st.text(), st.integers(0, 10**6), sizes, policies)
def test_a_view_lies_in_its_image(key, index, size, policy):
    view = draw_view(key, index, size, policy)
    assert 0 <= view.top < view.top + view.height <= size[0]
    assert 0 <= view.left < view.left + view.width <= size[1]
    assert view == draw_view(key, index, size, policy)
    if not getattr(policy, "flip", False):
        assert not view.flip


@given(policies)
def test_a_policy_survives_json(policy):
    assert policy_from_json(json.loads(json.dumps(policy_to_json(policy)))) == policy


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"name": "mixup"},
        {"name": "fixed", "crop_fraction": 2.0},
        {"name": "fixed", "crop_fraction": "1"},
        {"name": "fixed", "flip": True},
        {"name": "random_resized_crop", "scale": [0.5]},
        {"name": "random_resized_crop", "scale": [0.9, 0.5]},
        {"name": "random_resized_crop", "ratio": [0, 1]},
        {"name": "random_resized_crop", "ratio": [5e-324, 1]},
        {"name": "random_resized_crop", "scale": [10**400, 1]},
        {"name": []},
        {"name": "random_resized_crop", "flip": 1},
        {"name": "random_resized_crop", "seed": 0.5},
    ],
)
def test_a_wrong_policy_is_refused(value):
    with pytest.raises(ConfigError, match="view policy"):
        policy_from_json(value)


def test_every_part_of_the_identity_matters():
    size, policy = (375, 500), RandomResizedCrop()
    views = {draw_view(f"k{key}", index, size, RandomResizedCrop(seed=seed))
             for key in range(6) for index in range(6) for seed in range(6)}  # fmt: skip
    assert len(views) == 6**3
    # A seed is hashed with the rest, not added to it: seed 1, view 0 is not seed 0, view 1.
    assert draw_view("a", 1, size, policy) != draw_view("a", 0, size, RandomResizedCrop(seed=1))


def test_boxes_follow_the_policy():
    size = (400, 500)
    views = [draw_view(str(i), 0, size, RandomResizedCrop()) for i in range(20_000)]
    area = np.array([v.height * v.width for v in views]) / (size[0] * size[1])
    ratio = np.array([v.width / v.height for v in views])
    assert area.min() > 0.078
    assert ratio.min() > 0.74
    assert ratio.max() < 1.35
    # Uniform in area but for boxes too long to fit; log-uniform, so even about 1, in ratio; half are mirrored.
    assert abs(np.mean(area[area < 0.5]) - 0.29) < 0.005
    assert abs(np.mean(np.log(ratio[area < 0.5]))) < 0.01
    assert abs(np.mean([v.flip for v in views]) - 0.5) < 4 * 0.5 / math.sqrt(20_000)


def test_golden_views():
    golden = json.loads(GOLDEN.read_text())
    for case in golden["draws"]:
        view = draw_view(case["key"], case["index"], tuple(case["size"]), policy_from_json(case["policy"]))
        assert view == View(**case["view"]), case


def test_golden_pixels():
    golden = json.loads(GOLDEN.read_text())
    image = golden_image()
    for case in golden["pixels"]:
        pixels = apply_view(image, View(**case["view"]), tuple(case["output_size"]), case["interpolation"])
        wanted = torch.tensor(case["pixels"], dtype=torch.uint8)
        # Processors differ in their vector instructions, and so by at most one step in 255.
        assert (pixels.int() - wanted.int()).abs().max() <= 1, case["view"]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_pixels_are_pillows_antialiased_ones(mode):
    image = golden_image()
    view = View(3, 5, 60, 44, flip=False)
    box = Image.fromarray(image[:, 3:63, 5:49].permute(1, 2, 0).numpy())
    wanted = np.asarray(box.resize((20, 24), getattr(Image.Resampling, mode.upper())))
    ours = apply_view(image, view, (24, 20), mode)
    assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - wanted).max() <= 1
    flipped = apply_view(image, View(3, 5, 60, 44, flip=True), (24, 20), mode)
    assert torch.equal(flipped, ours.flip(2))


def test_memory_layout_does_not_change_pixels():
    image = golden_image()
    view = View(1, 2, 50, 40, flip=True)
    assert torch.equal(apply_view(image, view, 16), apply_view(image.contiguous(), view, 16))


def golden_image() -> torch.Tensor:
    """70 x 60, with edges and ramps, in a decoder's layout."""
    y, x = np.mgrid[0:70, 0:60]
    pixels = np.stack([(x * 4) % 256, (y * 3 + x) % 256, ((x // 7 + y // 5) % 2) * 255], axis=2).astype(np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def test_raw_bits_are_philoxs_stream():
    """The fast path, one generator for all keys, beside a generator for each; in threads too."""

    def bits(identity: str) -> list[int]:
        return raw_bits(identity, 0, 5) + raw_bits(identity, 5, 8)

    names = [f"{number}/0/n0{number}" for number in range(200)]
    with ThreadPoolExecutor(4) as pool:
        for name, found in zip(names, pool.map(bits, names), strict=True):
            assert found == philox(name).random_raw(13).tolist()


def test_a_view_is_written_where_it_is_wanted():
    image, batch = golden_image(), torch.zeros((3, 16, 16, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    for view in (View(1, 2, 50, 40, flip=True), View(0, 0, 70, 60, flip=False)):
        apply_view(image, view, 16, out=batch[1])
        assert torch.equal(batch[1], apply_view(image, view, 16))
        assert not batch[0].any()
        assert not batch[2].any()
