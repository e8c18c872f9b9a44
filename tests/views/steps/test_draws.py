"""What steps draw: pinned by a golden file, and independent of each other."""

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import ConfigError
from pld.views import (
    ColorJitter,
    CutMix,
    Fixed,
    Mixup,
    Op,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    ThreeAugment,
    View,
    apply_view,
    draw_view,
    policy_from_json,
    policy_to_json,
)
from pld.views.steps import apply_ops
from tests.views.steps.images import image

GOLDEN = Path(__file__).parents[2] / "golden" / "steps.json"
STEPS = (RandAugment(), ColorJitter(hue=0.1), ThreeAugment(), RandomErasing(probability=0.5))

factors = st.floats(0, 10)
steps = st.lists(
    st.one_of(
        st.builds(
            RandAugment,
            magnitude=factors,
            layers=st.integers(1, 16),
            magnitude_std=factors,
            increasing=st.booleans(),
        ),
        st.builds(ColorJitter, brightness=factors, contrast=factors, saturation=factors, hue=st.floats(0, 0.5)),
        st.just(ThreeAugment()),
        st.builds(RandomErasing, probability=st.floats(0, 1), fill=st.sampled_from(["pixel", "constant"])),
    ),
    max_size=4,
    unique_by=type,
)
mixes = st.sampled_from([(), (Mixup(),), (Mixup(alpha=0.2), CutMix())])
policies = st.builds(
    lambda crop, pixel, mix: crop(steps=(*pixel, *mix)), st.sampled_from([RandomResizedCrop, Fixed]), steps, mixes
)


def test_golden_draws():
    golden = json.loads(GOLDEN.read_text())
    assert {step["name"] for case in golden["draws"] for step in case["policy"]["steps"]} == {s.name for s in STEPS}
    for case in golden["draws"]:
        view = draw_view(case["key"], case["index"], (375, 500), policy_from_json(case["policy"]))
        found = [[op.name, *op.arguments] for op in view.ops]
        assert found == case["ops"], case


def test_golden_pixels():
    golden = json.loads(GOLDEN.read_text())
    for case in golden["pixels"]:
        name, *arguments = case["op"]
        pixels = apply_ops(image(61, 83, 5, 2), [Op(name, tuple(arguments))])
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == case["sha256"], case["op"]


@given(st.text(), st.integers(0, 10**6))
def test_a_step_more_leaves_the_others_draws_alone(key, index):
    drawn = {
        chosen: draw_view(key, index, (375, 500), RandomResizedCrop(steps=chosen, seed=3))
        for chosen in itertools.chain.from_iterable(itertools.combinations(STEPS, num) for num in range(5))
    }
    plain = drawn[()]
    assert plain.ops == ()
    for chosen, view in drawn.items():
        assert (view.top, view.left, view.height, view.width, view.flip) == (
            plain.top,
            plain.left,
            plain.height,
            plain.width,
            plain.flip,
        )
        assert view.ops == tuple(op for step in chosen for op in drawn[(step,)].ops)


def test_each_view_draws_its_own():
    policy = RandomResizedCrop(steps=STEPS)
    views = [draw_view(f"k{key}", index, (375, 500), policy).ops for key in range(20) for index in range(20)]
    assert len(set(views)) == len(views)


def test_erasing_at_other_sizes_is_the_same_box():
    (op,) = next(ops for i in range(99) if (ops := RandomErasing().draw(str(i))))
    erased = [apply_ops(image(side, side, 0, 0), [op]) != image(side, side, 0, 0) for side in (100, 200)]
    shares = [mask.any(2).mean() for mask in erased]
    assert shares[0] == pytest.approx(shares[1], abs=0.02)


@given(policies)
def test_a_policy_with_steps_survives_json(policy):
    assert policy_from_json(json.loads(json.dumps(policy_to_json(policy)))) == policy


def test_a_policy_without_steps_has_the_json_that_it_had():
    assert policy_to_json(Fixed()) == {"name": "fixed", "crop_fraction": 0.875, "seed": 0}
    assert "partners" not in policy_to_json(Fixed(steps=(ThreeAugment(),)))


def test_whole_numbers_in_json_are_the_same_policy():
    value = {"name": "fixed", "steps": [{"name": "rand_augment", "magnitude": 9}]}
    assert json.dumps(policy_to_json(policy_from_json(value))) == json.dumps(
        policy_to_json(Fixed(steps=(RandAugment(),)))
    )


@pytest.mark.parametrize(
    "step",
    [
        None,
        "rand_augment",
        {},
        {"name": []},
        {"name": None},
        {"name": "rand"},
        {"name": "rand_augment", "magnitude": 11},
        {"name": "rand_augment", "magnitude": -1},
        {"name": "rand_augment", "magnitude": "9"},
        {"name": "rand_augment", "magnitude": 10**400},
        {"name": "rand_augment", "magnitude": float("nan")},
        {"name": "rand_augment", "magnitude": True},
        {"name": "rand_augment", "magnitude_std": -0.1},
        {"name": "rand_augment", "layers": 0},
        {"name": "rand_augment", "layers": 10**9},
        {"name": "rand_augment", "layers": 2.5},
        {"name": "rand_augment", "increasing": 1},
        {"name": "rand_augment", "seed": 1},
        {"name": "color_jitter", "hue": 0.6},
        {"name": "color_jitter", "brightness": -0.1},
        {"name": "color_jitter", "brightness": [0.1, 0.2]},
        {"name": "three_augment", "radius": 2.0},
        {"name": "random_erasing", "probability": 1.1},
        {"name": "random_erasing", "area": [0.0, 0.3]},
        {"name": "random_erasing", "area": [0.1, 1.3]},
        {"name": "random_erasing", "area": [0.1]},
        {"name": "random_erasing", "ratio": [2.0, 1.0]},
        {"name": "random_erasing", "ratio": [0.1, float("inf")]},
        {"name": "random_erasing", "ratio": [5e-324, 1.0]},
        {"name": "random_erasing", "fill": "white"},
        {"name": "random_erasing", "steps": []},
        {"name": "mixup", "alpha": 0},
    ],
    ids=str,
)
def test_hostile_steps_are_refused(step):
    with pytest.raises(ConfigError, match=r"view (policy|step)"):
        policy_from_json({"name": "fixed", "steps": [step]})


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((RandAugment(), RandAugment(magnitude=3.0)), "rand_augment comes twice"),
        ((Mixup(), RandAugment()), "mixup and cutmix come last"),
    ],
)
def test_steps_that_do_not_go_together_are_refused(steps, message):
    with pytest.raises(ConfigError, match=message):
        RandomResizedCrop(steps=steps)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(40, 40), (31, 57)])
def test_operations_follow_resize_and_flip(flip, size):
    picture = torch.from_numpy(image(90, 120, 3, 2)).permute(2, 0, 1)
    ops = (Op("rotate", (20.0,)), Op("erase_with_noise", (0.5, 0.3, 0.2, 0.9, 5.0)), Op("contrast", (1.5,)))
    view = View(5, 10, 60, 80, flip, ops)
    plain = apply_view(picture, dataclasses.replace(view, ops=()), size)
    wanted = apply_ops(plain.permute(1, 2, 0).numpy(), ops)
    assert np.array_equal(apply_view(picture, view, size).permute(1, 2, 0).numpy(), wanted)
    out = torch.zeros((*size, 3), dtype=torch.uint8).permute(2, 0, 1)
    apply_view(picture, view, size, out=out)
    assert np.array_equal(out.permute(1, 2, 0).numpy(), wanted)
