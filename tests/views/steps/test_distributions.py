"""Steps draw their parameters as timm and torchvision do: 20,000 draws of each, compared."""

import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from scipy import stats
from timm.data import auto_augment as aa
from timm.data import random_erasing
from torchvision.transforms import ColorJitter as TorchvisionColorJitter

from pld.views import ColorJitter, RandAugment, RandomErasing, ThreeAugment

NUM = 20_000
# Seeds are fixed, so no test fails by chance; of about 100 comparisons one is likely to be below 0.01.
LEAST_P = 2e-3

TIMMS_NAMES = {
    "AutoContrast": "auto_contrast",
    "SolarizeAdd": "solarize_add",
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateXRel": "translate_x",
    "TranslateYRel": "translate_y",
}


@pytest.fixture
def seeded():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def recorded(monkeypatch) -> list[tuple[str, tuple]]:
    """What timm's operations are called with from now on; they return the image as it is."""
    calls: list[tuple[str, tuple]] = []

    def recorder(name):
        def record(img, *args, **_):
            calls.append((TIMMS_NAMES.get(name, name.removesuffix("Increasing").lower()), args))
            return img

        return record

    for name in aa.NAME_TO_OP:
        monkeypatch.setitem(aa.NAME_TO_OP, name, recorder(name))
    return calls


def assert_same_frequencies(ours: Counter, theirs: Counter) -> None:
    assert set(ours) == set(theirs)
    table = [[counts[name] for name in sorted(theirs)] for counts in (ours, theirs)]
    assert stats.chi2_contingency(table).pvalue > LEAST_P


def assert_same_arguments(ours: list[tuple], theirs: list[tuple]) -> None:
    """The same numbers at least in distribution, for each operation."""
    of_ours, of_theirs = defaultdict(list), defaultdict(list)
    for calls, of in ((ours, of_ours), (theirs, of_theirs)):
        for name, args in calls:
            of[name].append(args[0] if args else 0.0)
    for name, values in of_theirs.items():
        assert stats.ks_2samp(of_ours[name], values).pvalue > LEAST_P, name


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("rand-m9-mstd0.5-inc1", RandAugment()),
        ("rand-m7-n3-mstd2", RandAugment(magnitude=7.0, layers=3, magnitude_std=2.0, increasing=False)),
        ("rand-m5-n1-inc1", RandAugment(magnitude=5.0, layers=1, magnitude_std=0.0)),
    ],
)
def test_rand_augment(text, step, monkeypatch, seeded):
    theirs = recorded(monkeypatch)
    transform = aa.rand_augment_transform(text, {"img_mean": (124, 116, 104)})
    lengths = Counter()
    for _ in range(NUM):
        before = len(theirs)
        transform(None)
        lengths[len(theirs) - before] += 1
    draws = [step.draw(str(i)) for i in range(NUM)]
    ours = [(op.name, op.arguments) for ops in draws for op in ops]
    assert_same_frequencies(Counter(map(len, draws)), lengths)
    assert_same_frequencies(Counter(name for name, _ in ours), Counter(name for name, _ in theirs))
    if step.magnitude_std:
        assert_same_arguments(ours, theirs)
    else:
        assert_same_frequencies(Counter(ours), Counter(theirs))


@pytest.mark.parametrize("widths", [(0.4, 0.4, 0.4, 0.0), (1.5, 0.2, 0.7, 0.5)])
def test_color_jitter(widths, seeded):
    jitter = TorchvisionColorJitter(*widths)
    names = ("brightness", "contrast", "color", "hue")
    theirs, their_orders = [], Counter()
    for _ in range(NUM):
        order, *factors = jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        drawn = [(names[i], (factors[i],)) for i in order.tolist() if factors[i] is not None]
        theirs += drawn
        their_orders[tuple(name for name, _ in drawn)] += 1
    step = ColorJitter(**dict(zip(("brightness", "contrast", "saturation", "hue"), widths, strict=True)))
    draws = [step.draw(str(i)) for i in range(NUM)]
    assert_same_frequencies(Counter(tuple(op.name for op in ops) for ops in draws), their_orders)
    assert_same_arguments([(op.name, op.arguments) for ops in draws for op in ops], theirs)


def test_three_augment(monkeypatch, seeded):
    theirs = []

    class Picture:
        def filter(self, blur):
            theirs.append(("blur", (blur.radius,)))

    monkeypatch.setitem(aa.NAME_TO_OP, "Solarize", lambda _, *args, **__: theirs.append(("solarize", args)))
    # Pillow's enhancement of colour by 0 is grey.
    monkeypatch.setitem(aa.NAME_TO_OP, "Desaturate", lambda _, by, **__: theirs.append(("color", (1 - by,))))
    transform = aa.auto_augment_transform("3a")
    for _ in range(NUM):
        transform(Picture())
    ours = [(op.name, op.arguments) for i in range(NUM) for op in ThreeAugment().draw(str(i))]
    assert_same_frequencies(Counter(name for name, _ in ours), Counter(name for name, _ in theirs))
    assert_same_arguments(ours, theirs)


@pytest.mark.parametrize("step", [RandomErasing(), RandomErasing(probability=1.0, area=(0.2, 0.6), fill="constant")])
def test_random_erasing(step, seeded):
    side, boxes = 2000, []

    class Picture:
        def __setitem__(self, place, _):
            boxes.append(
                [place[1].stop - place[1].start, place[2].stop - place[2].start, *(p.start for p in place[1:])]
            )

    eraser = random_erasing.RandomErasing(
        step.probability, min_area=step.area[0], max_area=step.area[1], mode="const", device="cpu"
    )
    for _ in range(NUM):
        eraser._erase(Picture(), 1, side, side, torch.float32)
    ops = [op for i in range(NUM) for op in step.draw(str(i))]
    assert {op.name for op in ops} == {"erase_with_noise" if step.fill == "pixel" else "erase"}
    deviation = math.sqrt(NUM * step.probability * (1 - step.probability)) + 10
    assert abs(len(ops) - len(boxes)) < 4 * deviation
    sizes = np.array([op.arguments[:2] for op in ops]) * side
    places = np.array([op.arguments[2:4] for op in ops]) * (side - sizes)
    for ours, theirs in zip(np.concatenate([sizes, places], axis=1).T, np.array(boxes).T, strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > LEAST_P
    areas, their_areas = np.prod(sizes, axis=1), np.prod(np.array(boxes)[:, :2], axis=1)
    assert stats.ks_2samp(areas, their_areas).pvalue > LEAST_P
    if step.fill == "pixel":
        assert len({op.arguments[4] for op in ops}) == len(ops)
