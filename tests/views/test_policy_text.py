import contextlib
import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import ConfigError
from pld.views import (
    PRESETS,
    ColorJitter,
    CutMix,
    Fixed,
    Mixup,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    ThreeAugment,
    parse_policy,
    policy_to_json,
)

PHOTOS = RandomResizedCrop(seed=5)
GLYPHS = RandomResizedCrop(scale=(0.5, 1.0), ratio=(1.0, 1.0), flip=False, seed=5, partners="dataset")
CENTRE = Fixed(crop_fraction=0.9, seed=5)

RAND = RandAugment()
ERASE = RandomErasing(probability=0.25)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("light", ()),
        ("deit", (RAND, ERASE, Mixup(alpha=0.8), CutMix(alpha=1.0))),
        ("tinyvit", (RAND, ERASE)),
        ("a1", (RandAugment(magnitude=7.0), Mixup(alpha=0.2), CutMix(alpha=1.0))),
        ("rand", (RandAugment(magnitude=10.0, magnitude_std=0.0, increasing=False),)),
        ("rand-m3-n4-inc0", (RandAugment(magnitude=3.0, layers=4, magnitude_std=0.0, increasing=False),)),
        ("rand-inc1-mstd.5-m9.5", (RandAugment(magnitude=9.5),)),
        ("jitter-0.3", (ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3),)),
        ("jitter-0.1-0.2-0.3", (ColorJitter(brightness=0.1, contrast=0.2, saturation=0.3),)),
        ("jitter-0.1-0.2-0.3-0.4", (ColorJitter(brightness=0.1, contrast=0.2, saturation=0.3, hue=0.4),)),
        ("three, jitter-0.3", (ThreeAugment(), ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3))),
        ("erase-0.1-const", (RandomErasing(probability=0.1, fill="constant"),)),
        ("cutmix-1", (CutMix(alpha=1.0),)),
    ],
)
@pytest.mark.parametrize("default", [PHOTOS, GLYPHS, CENTRE])
def test_steps_follow_the_datasets_own_crop(text, steps, default):
    assert parse_policy(text, default) == dataclasses.replace(default, steps=steps)


@pytest.mark.parametrize(
    ("text", "default", "wanted"),
    [
        ("rrc", PHOTOS, RandomResizedCrop(flip=False, seed=5)),
        ("rrc,flip", PHOTOS, PHOTOS),
        ("flip", PHOTOS, PHOTOS),
        ("rrc", GLYPHS, GLYPHS),
        ("rrc-0.2-1", GLYPHS, dataclasses.replace(GLYPHS, scale=(0.2, 1.0))),
        ("rrc-.35-.75,flip,three", PHOTOS, dataclasses.replace(PHOTOS, scale=(0.35, 0.75), steps=(ThreeAugment(),))),
        ("rrc,flip", CENTRE, PHOTOS),
        ("random_resized_crop", PHOTOS, PHOTOS),
        ("random_resized_crop", GLYPHS, GLYPHS),
        ("random_resized_crop", CENTRE, PHOTOS),
        ("fixed", PHOTOS, Fixed(crop_fraction=0.95, seed=5)),
        ("fixed", CENTRE, Fixed(crop_fraction=0.95, seed=5)),
        ("fixed-0.5,three", GLYPHS, Fixed(crop_fraction=0.5, seed=5, steps=(ThreeAugment(),), partners="dataset")),
        ('{"name": "fixed"}', PHOTOS, Fixed(crop_fraction=0.875, seed=5)),
        ('{"name": "random_resized_crop"}', GLYPHS, GLYPHS),
    ],
)  # fmt: skip
def test_crops(text, default, wanted):
    assert parse_policy(text, default, default_crop_fraction=0.95) == wanted


@pytest.mark.parametrize("preset", PRESETS)
def test_json_says_the_same_as_words(preset):
    policy = parse_policy(preset, PHOTOS)
    described = policy_to_json(policy)
    del described["seed"]
    assert parse_policy(json.dumps(described), PHOTOS) == policy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rand-m9,,three", "nothing before, after or between commas"),
        ("rnd-m9", "unknown step 'rnd-m9'; is rand meant?"),
        ("diet", "is deit meant?"),
        ("mixup2-1", "is mixup meant?"),
        ("deit,three", "the preset deit (rand-m9-mstd0.5-inc1,erase-0.25,mixup-0.8,cutmix-1.0) cannot be combined"),
        ("rrc,flip,light", "the preset light (no step) cannot be combined with steps"),
        ("rand-m11", "magnitude 11; wanted 0 to 10"),
        ("rand-m9-n0", "layers 0"),
        ("rand-m9-mstd101", "magnitude_std 101; wanted 0 to 100"),
        ("rand-m9-p0.5", "found 'rand-m9-p0.5'; wanted rand-m9-n2-mstd0.5-inc1"),
        ("rand-m9-m9", "found 'rand-m9-m9'"),
        ("rand-m9-inc2", "found 'rand-m9-inc2'"),
        ("rand-m9-n2.5", "found 'rand-m9-n2.5'"),
        ("rand-m-9", "found 'rand-m-9'"),
        ("jitter", "found 'jitter'; wanted jitter-STRENGTH, such as jitter-0.4"),
        ("jitter-0.4-0.4", "found 'jitter-0.4-0.4'"),
        ("jitter-1-1-1-0.6", "hue 0.6; wanted 0 to 0.5"),
        ("three-1", "found 'three-1'"),
        ("erase", "found 'erase'"),
        ("erase-1.5", "probability 1.5; wanted 0 to 1"),
        ("erase-0.5-white", "found 'erase-0.5-white'; wanted erase-PROBABILITY, such as erase-0.25"),
        ("erase-nan", "found 'erase-nan'"),
        ("erase-1e-3", "found 'erase-1e-3'"),
        ("mixup-0", "mixup's alpha 0; wanted 0.01 to 2"),
        ("cutmix-3", "cutmix's alpha 3; wanted 0.01 to 2"),
        ("mixup-0.8,erase-0.25", "mixup and cutmix come last"),
        ("erase-0.25,erase-0.5", "random_erasing comes twice"),
        ("rrc,fixed", "fixed comes twice or too late"),
        ("three,rrc", "rrc comes twice or too late"),
        ("three,flip", "flip comes twice or too late"),
        ("flip-0.5,three", "found 'flip-0.5'; wanted flip"),
        ("rrc,flip-0", "found 'flip-0'; wanted flip"),
        ("rrc,,flip", "nothing before, after or between commas"),
        ("", "nothing before, after or between commas"),
        ("flip,rrc", "rrc comes twice or too late"),
        ("fixed,flip", "fixed crops are not mirrored"),
        ("rrc-0.5", "found 'rrc-0.5'"),
        ("rrc-0.9-0.5", "scale (0.9, 0.5)"),
        ("fixed-2", "crop_fraction 2.0"),
        ("random_resized_crop-0.5-1", "found 'random_resized_crop-0.5-1'"),
        ("{", "not JSON"),
        ('{"name": "fixed", "seed": 3}', "the seed is given by --view_seed"),
        ('{"name": "fixd"}', "found {"),
        ('{"name": ' * 100_000, "not JSON"),
    ],
)  # fmt: skip
def test_wrong_texts_are_refused(text, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        parse_policy(text, PHOTOS)
    assert str(refused.value).startswith("--policy ")


@pytest.mark.parametrize("text", ["flip", "rrc,flip,three", "flip,three,mixup-1"])
def test_a_dataset_that_does_not_mirror_is_not_mirrored(text):
    with pytest.raises(ConfigError, match="does not mirror its images") as refused:
        parse_policy(text, GLYPHS)
    advised = parse_policy(str(refused.value).rpartition("wanted ")[2], GLYPHS)
    assert advised == dataclasses.replace(parse_policy(text, PHOTOS), **fields_of(GLYPHS))


def fields_of(policy: RandomResizedCrop) -> dict:
    return {name: getattr(policy, name) for name in ("scale", "ratio", "flip", "partners")}


WORDS = [
    "rrc",
    "fixed",
    "flip",
    "rand",
    "jitter",
    "three",
    "erase",
    "mixup",
    "cutmix",
    "deit",
    "m9",
    "0.5",
    "{",
    "-",
    ",",
]


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=8).map("-".join) | st.text())
def test_any_text_is_a_policy_or_a_clear_error(text):
    with contextlib.suppress(ConfigError):
        assert parse_policy(text, PHOTOS).seed == 5


def test_json_does_not_mirror_what_the_dataset_does_not():
    text = '{"name": "random_resized_crop", "flip": true}'
    with pytest.raises(ConfigError, match="does not mirror its images"):
        parse_policy(text, GLYPHS)
    assert parse_policy(text, PHOTOS) == PHOTOS
