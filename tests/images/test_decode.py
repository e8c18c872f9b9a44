import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pld.errors import DataError
from pld.images.decode import _decode_upper_rows, decode_image, jpeg_size
from tests.making import jpeg


def encoded(image: Image.Image, form: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


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


SAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
TALL = Image.open(io.BytesIO(jpeg(1, (131, 37))))


@pytest.mark.parametrize("subsampling", SAMPLINGS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_upper_rows_are_those_of_the_whole_image(subsampling, mode):
    """However far down: chroma is interpolated between rows, and the last one must not notice that it is the last."""
    data = encoded(TALL.convert(mode), "JPEG", subsampling=subsampling)
    whole = pixels(data)
    for num_rows in range(1, 132):
        upper = decode_image(data, num_rows).permute(1, 2, 0).numpy()
        assert len(upper) >= num_rows
        assert (len(upper) < 131) == (num_rows <= 111)  # 16 rows and 4 more are worth it
        assert np.array_equal(upper[:num_rows], whole[:num_rows])


@pytest.mark.parametrize("settings", [{"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 3}])
def test_jpegs_that_cannot_be_cut_are_decoded_whole(settings):
    data = encoded(TALL, "JPEG", **settings)
    assert np.array_equal(decode_image(data, 10).permute(1, 2, 0).numpy(), pixels(data))


def test_damage_among_the_upper_rows_is_no_less_noticed():
    """A flipped bit: what is cut is what Pillow decodes, and where the decoder warns, the whole image is judged."""
    data, rng = encoded(TALL, "JPEG"), np.random.default_rng(0)
    noticed = 0
    for place in rng.integers(data.index(b"\xff\xda") + 14, len(data) - 2, 300).tolist():
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        upper = _decode_upper_rows(bytes(damaged), 64, 37) if jpeg_size(bytes(damaged)) else None
        noticed += upper is None
        try:
            wanted = np.asarray(Image.open(io.BytesIO(damaged)).convert("RGB"))
        except OSError:
            continue  # Pillow cannot read on to the end, which is below
        if upper is not None:
            assert np.array_equal(upper[:60], wanted[:60])
    assert noticed


def test_a_truncated_image_is_an_error_however_few_rows_are_wanted():
    data = encoded(TALL, "JPEG")
    for keep in (len(data) - 2, len(data) * 3 // 4, len(data) // 2):
        with pytest.raises(DataError):
            decode_image(data[:keep], 1)


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
