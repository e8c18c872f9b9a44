"""Which JPEGs can be given to a decoder that fills up what is missing in silence."""

import io

import pytest
from PIL import Image

from pld.images.decode.jpeg_markers import has_one_whole_scan
from tests.making import jpeg

PHOTO = Image.open(io.BytesIO(jpeg(0, (90, 61))))


def encoded(image: Image.Image = PHOTO, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("settings", [{}, {"subsampling": 2}, {"quality": 100}, {"comment": b"\xff\xd9"}])
def test_ordinary_files(settings):
    assert has_one_whole_scan(encoded(**settings))
    assert has_one_whole_scan(encoded(PHOTO.convert("L"), **settings))
    assert has_one_whole_scan(encoded(**settings) + b"junk behind the end")


@pytest.mark.parametrize("settings", [{"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 3}])
def test_more_than_a_scan(settings):
    assert not has_one_whole_scan(encoded(**settings))


def test_cut_short_anywhere():
    data = encoded()
    assert not any(has_one_whole_scan(data[:keep]) for keep in range(len(data)))


def test_a_marker_in_the_scan():
    data = encoded()
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    assert not has_one_whole_scan(data[:middle] + b"\xff\xd0" + data[middle:])
    assert not has_one_whole_scan(data[:middle] + b"\xff\xff\x00" + data[middle:])


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\x00\x02\xff\xd9", b"\x89PNG\r\n\x1a\n" + bytes(99)]
)
def test_what_is_no_jpeg(data):
    assert not has_one_whole_scan(data)
