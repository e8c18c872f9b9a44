import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pld.views import Op
from pld.views.colours import IMAGENET_MEAN, IMAGENET_STD, MEAN_COLOUR
from pld.views.steps import apply_ops
from tests.views.steps.images import image, images

SHARES = st.floats(0, 1, exclude_max=True)


@given(images, SHARES, SHARES, SHARES, SHARES, st.integers(0, 2**53 - 1))
def test_a_box_is_erased_and_nothing_else(pixels, height, width, down, right, seed):
    rows, columns = round(height * pixels.shape[0]), round(width * pixels.shape[1])
    top, left = int(down * (pixels.shape[0] - rows + 1)), int(right * (pixels.shape[1] - columns + 1))
    inside = np.zeros(pixels.shape[:2], bool)
    inside[top : top + rows, left : left + columns] = True
    constant = apply_ops(pixels, [Op("erase", (height, width, down, right))])
    assert np.array_equal(constant, np.where(inside[..., None], np.uint8(MEAN_COLOUR), pixels))
    noisy = apply_ops(pixels, [Op("erase_with_noise", (height, width, down, right, float(seed)))])
    assert np.array_equal(noisy[~inside], pixels[~inside])
    assert np.array_equal(noisy[inside], noise(rows, columns, seed).reshape(-1, 3))


def noise(rows: int, columns: int, seed: int) -> np.ndarray:
    """The slow twin: number by number from the stream of 16-bit words, by the normal's own inverse."""
    words = np.random.Philox(key=seed).random_raw(rows * columns).astype("<u8").view("<u2")
    levels = [
        round(
            min(max(255 * NormalDist(IMAGENET_MEAN[i % 3], IMAGENET_STD[i % 3]).inv_cdf((word + 0.5) / 2**16), 0), 255)
        )
        for i, word in enumerate(words[: rows * columns * 3].tolist())
    ]
    return np.array(levels, np.uint8).reshape(rows, columns, 3)


@pytest.mark.parametrize("channel", range(3))
def test_noise_is_normal_but_for_its_ends(channel):
    pixels = apply_ops(image(200, 300, 0, 0), [Op("erase_with_noise", (1.0, 1.0, 0.0, 0.0, 7.0))])[..., channel]
    normal = stats.norm(255 * IMAGENET_MEAN[channel], 255 * IMAGENET_STD[channel])
    edges = np.array([-math.inf, *(np.arange(10, 250, 10) + 0.5), math.inf])
    counts, _ = np.histogram(pixels, edges)
    assert stats.chisquare(counts, np.diff(normal.cdf(edges)) * pixels.size).pvalue > 1e-3


def test_noise_differs_from_view_to_view_and_between_channels():
    def erased(seed):
        return apply_ops(image(64, 64, 0, 0), [Op("erase_with_noise", (1.0, 1.0, 0.0, 0.0, seed))]).astype(int)

    first, second = erased(1.0), erased(2.0)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(first[..., 0].ravel(), first[..., 1].ravel())[0, 1]) < 0.06
