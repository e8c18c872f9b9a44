"""The upper rows of a JPEG are those of the whole image, or it is left to others."""

import io

import numpy as np
import pytest
from PIL import Image

from pld.images.decode.image import jpeg_size
from pld.images.decode.jpeg_rows import decode_upper_rows
from tests.making import encoded, jpeg, with_pillow

TALL = Image.open(io.BytesIO(jpeg(1, (131, 37))))


@pytest.mark.parametrize(("mode", "subsampling"), [("RGB", 0), ("RGB", 1), ("RGB", 2), ("L", 0)])
def test_upper_rows_are_those_of_the_whole_image(mode, subsampling):
    """However far down: chroma is interpolated between rows, and the last one must not notice that it is the last."""
    data = encoded(TALL.convert(mode), subsampling=subsampling)
    whole = with_pillow(data)
    for num_rows in range(1, 132):
        upper = decode_upper_rows(data, (131, 37), num_rows)
        assert (upper is not None) == (num_rows <= 111)  # 16 rows and 4 more are worth it
        if upper is not None:
            assert np.array_equal(upper[:num_rows], whole[:num_rows])


@pytest.mark.parametrize("settings", [{"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 3}])
def test_jpegs_that_cannot_be_cut(settings):
    assert decode_upper_rows(encoded(TALL, **settings), (131, 37), 10) is None


def test_damage_among_the_upper_rows_is_no_less_noticed():
    """A flipped bit: what is cut is what Pillow decodes, and where the decoder warns, the whole image is judged."""
    data, rng = encoded(TALL), np.random.default_rng(0)
    noticed = 0
    for place in rng.integers(data.index(b"\xff\xda") + 14, len(data) - 2, 300).tolist():
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        upper = decode_upper_rows(bytes(damaged), (131, 37), 60) if jpeg_size(bytes(damaged)) else None
        noticed += upper is None
        try:
            wanted = with_pillow(bytes(damaged))
        except OSError:
            continue  # Pillow cannot read on to the end, which is below
        if upper is not None:
            assert np.array_equal(upper[:60], wanted[:60])
    assert noticed


def test_truncated_images_are_left_to_others():
    data = encoded(TALL)
    for keep in (len(data) - 2, len(data) * 3 // 4, len(data) // 2):
        assert decode_upper_rows(data[:keep], (131, 37), 1) is None
