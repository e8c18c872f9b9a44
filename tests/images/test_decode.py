import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pld.errors import DataError
from pld.images.decode import decode_image, jpeg_size
from tests.making import encoded, jpeg


def pixels(data: bytes) -> np.ndarray:
    return decode_image(data).permute(1, 2, 0).numpy()


PHOTO = Image.open(io.BytesIO(jpeg(0, (45, 61))))


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2, "quality": 30}])
def test_jpegs_decode_as_pillow_decodes_them(settings):
    data = encoded(PHOTO, "JPEG", **settings)
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("mode", "form"),
    [("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("RGB", "WEBP"),
     ("RGB", "BMP"), ("RGB", "PPM")],
)  # fmt: skip
def test_what_imagenet_and_friends_contain(mode, form):
    data = encoded(PHOTO.convert(mode), form)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert wanted.shape == (45, 61, 3)
    assert np.array_equal(pixels(data), wanted)


def test_a_truncated_image_is_an_error_however_small_the_box():
    data = encoded(PHOTO, "JPEG")
    for keep in (len(data) - 2, len(data) * 3 // 4, len(data) // 2):
        with pytest.raises(DataError):
            decode_image(data[:keep], box=(0, 0, 1, 1))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_box_is_cut_out_of_the_image(form):
    data = encoded(PHOTO, form)
    assert np.array_equal(decode_image(data, box=(3, 5, 20, 31)).permute(1, 2, 0), pixels(data)[3:23, 5:36])


def test_a_sampling_that_simplejpeg_has_no_name_for():
    """4:4:1: chroma of a quarter of the height."""
    data = encoded(PHOTO, "JPEG", subsampling=0)
    frame = data.index(b"\xff\xc0")
    other = data[: frame + 11] + b"\x14" + data[frame + 12 :]
    assert jpeg_size(other) is None


def test_orientation_is_ignored():
    tags = Image.Exif()
    tags[0x0112] = 6
    assert pixels(encoded(PHOTO, "JPEG", exif=tags)).shape == (45, 61, 3)


def test_extra_bytes_before_a_marker_are_no_damage():
    """libjpeg warns of them and decodes; some of ImageNet's files have them."""
    data = encoded(PHOTO, "JPEG")
    end = data.rindex(b"\xff\xd9")
    assert np.array_equal(pixels(data[:end] + bytes(7) + data[end:]), pixels(data))


@pytest.mark.parametrize("keep", [0, 1, 2, 100, 0.5, 0.95])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_image_is_an_error(keep, form):
    data = encoded(PHOTO, form)
    with pytest.raises(DataError):
        decode_image(data[: int(keep * len(data)) if isinstance(keep, float) else keep])


def test_random_bytes_are_an_error():
    rng = np.random.default_rng(0)
    for start in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF89a", b"BM", b"P6"):
        for _ in range(50):
            with pytest.raises(DataError):
                decode_image(start + rng.bytes(200))


def test_a_decompression_bomb_is_an_error():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for side in (10_500, 60_000):  # beyond our limit, beyond Pillow's
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")
        with pytest.raises(DataError, match="pixels"):
            decode_image(b"\x89PNG\r\n\x1a\n" + chunks)


def test_a_jpeg_that_declares_too_much_is_an_error():
    data = bytearray(encoded(PHOTO, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 10_500, 10_500)
    with pytest.raises(DataError, match="10500 x 10500 pixels"):
        decode_image(bytes(data))


def test_sixteen_bits_a_channel_are_an_error():
    deep = Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16))
    with pytest.raises(DataError, match="8 bits"):
        decode_image(encoded(deep, "PNG"))
