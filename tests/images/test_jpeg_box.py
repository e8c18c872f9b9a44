"""A box of a JPEG is what is cut out of the whole image, to the last bit."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pld.images import jpeg_box
from pld.images.decode import decode_image, jpeg_size
from pld.images.jpeg_box import decode_box
from tests.making import jpeg

needs_library = pytest.mark.skipif(jpeg_box.find_library() is None, reason="no libturbojpeg 3 for this platform")

PHOTO = np.array(Image.open(io.BytesIO(jpeg(0, (311, 277)))))
SAMPLINGS = ("444", "422", "420", "440", "411", "Gray")
ENCODED = {
    sampling: simplejpeg.encode_jpeg(
        PHOTO[:, :, :1].copy() if sampling == "Gray" else PHOTO,
        quality=90,
        colorspace="GRAY" if sampling == "Gray" else "RGB",
        colorsubsampling=sampling,
    )
    for sampling in SAMPLINGS
}


def with_pillow(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def by_pillow(**settings) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, "JPEG", **settings)
    return buffer.getvalue()


def cut(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    top, left, height, width = box
    return image[top : top + height, left : left + width]


@st.composite
def boxes(draw):
    top, left = draw(st.integers(0, 310)), draw(st.integers(0, 276))
    return top, left, draw(st.integers(1, 311 - top)), draw(st.integers(1, 277 - left))


@needs_library
@given(st.sampled_from(SAMPLINGS), boxes())
def test_any_box(sampling, box):
    data = ENCODED[sampling]
    found = decode_box(data, (311, 277), box)
    if 311 * 277 - box[2] * box[3] < jpeg_box._LEAST_SAVED:
        assert found is None
    else:
        assert np.array_equal(found, cut(with_pillow(data), box))


@needs_library
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_place_in_a_block(sampling):
    whole = with_pillow(ENCODED[sampling])
    for place in range(64):
        for box in ((place, 64 - place, 100, 90), (64 - place, place, 33 + place, 20 + place)):
            assert np.array_equal(decode_box(ENCODED[sampling], (311, 277), box), cut(whole, box)), box


@needs_library
@pytest.mark.parametrize(
    "settings",
    [
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 3},
        {"keep_rgb": True},
        {"quality": 1},
    ],
)
def test_other_kinds_of_jpegs(settings):
    data = by_pillow(**settings)
    assert np.array_equal(decode_box(data, (311, 277), (50, 61, 100, 110)), cut(with_pillow(data), (50, 61, 100, 110)))


@needs_library
def test_where_the_library_warns_the_whole_image_is_judged():
    """A flipped bit: what is cut is what Pillow decodes."""
    data, rng, box = ENCODED["420"], np.random.default_rng(0), (90, 31, 120, 101)
    told = 0
    for place in rng.integers(0, len(data), 400).tolist():
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        damaged = bytes(damaged)
        found = decode_box(damaged, (311, 277), box) if jpeg_size(damaged) == (311, 277) else None
        told += found is None
        try:
            wanted = with_pillow(damaged)
        except OSError:
            continue  # Pillow cannot read on to the end, which is below
        if found is not None:
            assert np.array_equal(found, cut(wanted, box))
    assert 0 < told < 380


@needs_library
def test_images_cut_short():
    data, box = ENCODED["444"], (0, 0, 20, 20)
    assert decode_box(data + bytes(9), (311, 277), box) is not None
    for keep in (len(data) - 2, len(data) * 3 // 4, 700, 4, 0):
        assert decode_box(data[:keep], (311, 277), box) is None


@needs_library
def test_threads_do_not_share_a_decoder():
    def decode(number: int) -> bool:
        sampling, box = SAMPLINGS[number % 6], (number % 100, number % 90, 60 + number % 50, 70)
        return np.array_equal(decode_box(ENCODED[sampling], (311, 277), box), cut(wholes[sampling], box))

    wholes = {sampling: with_pillow(data) for sampling, data in ENCODED.items()}
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(decode, range(600)))


@needs_library
def test_libraries_that_do_not_know_boxes_are_passed_over(monkeypatch):
    names = ["libnowhere.so.7", "libc.so.6", *jpeg_box._names()]
    monkeypatch.setattr(jpeg_box, "_names", lambda: iter(names))
    jpeg_box.find_library.cache_clear()
    assert hasattr(jpeg_box.find_library(), "tj3SetCroppingRegion")
    monkeypatch.setattr(jpeg_box, "_names", lambda: iter(names[:2]))
    jpeg_box.find_library.cache_clear()
    assert jpeg_box.find_library() is None
    assert decode_box(ENCODED["444"], (311, 277), (0, 0, 9, 9)) is None
    jpeg_box.find_library.cache_clear()


def test_the_whole_image_is_the_other_way():
    """What `decode_box` leaves to it."""
    for data in ENCODED.values():
        assert np.array_equal(decode_image(data).permute(1, 2, 0).numpy(), with_pillow(data))
