import io
import runpy
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from pld.errors import DataError
from pld.images.decode import image as decode
from pld.images.decode.image import decode_image, jpeg_size
from tests.making import encoded, jpeg, with_pillow


def pixels(data: bytes) -> np.ndarray:
    return decode_image(data).permute(1, 2, 0).numpy()


AVIF = ["AVIF"] if "avif" in decode.IMAGE_EXTENSIONS else []  # not in every Pillow that is good enough
PHOTO = Image.open(io.BytesIO(jpeg(0, (45, 61))))


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2, "quality": 30}])
def test_jpegs_decode_as_pillow_decodes_them(settings):
    data = encoded(PHOTO, "JPEG", **settings)
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("mode", "form"),
    [("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("RGB", "WEBP"),
     ("RGB", "BMP"), ("RGB", "PPM"), ("RGB", "GIF"), ("P", "GIF"), ("RGB", "TIFF"), ("L", "TIFF"), ("CMYK", "TIFF"),
     ("RGBA", "TIFF"), ("1", "TIFF"), *[(mode, form) for form in AVIF for mode in ("RGB", "RGBA")]],
)  # fmt: skip
def test_what_imagenet_and_friends_contain(mode, form):
    data = encoded(PHOTO.convert(mode), form)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert wanted.shape == (45, 61, 3)
    assert np.array_equal(pixels(data), wanted)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
def test_compressed_tiffs(compression):
    data = encoded(PHOTO, "TIFF", compression=compression)
    assert np.array_equal(pixels(data), with_pillow(data))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF", "PNG", *AVIF])
def test_the_first_of_several_frames_or_pages(form):
    """Lossless where the format can be, so that the frames' own pixels tell them apart."""
    frames = [Image.new("RGB", (61, 45), colour) for colour in ("red", "green", "blue")]
    settings = {"lossless": True} if form == "WEBP" else {"quality": 100} if form == "AVIF" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **settings)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert pixels(data).shape == (45, 61, 3)
    assert np.abs(pixels(data).astype(int) - (255, 0, 0)).max() <= 3


def test_formats_that_this_pillow_lacks_are_not_listed(monkeypatch):
    """A Pillow without AVIF and WebP: their files are counted as left out, and never tried."""
    lacking = {name: found for name, found in features.modules.items() if name != "avif"}
    with monkeypatch.context() as patch:
        patch.setattr(features, "modules", lacking)
        patch.setattr(features, "check_module", lambda name: False)
        patch.setattr(features, "check_codec", lambda name: False)
        names = runpy.run_path(decode.__file__)["IMAGE_EXTENSIONS"]
    assert names == ("jpg", "jpeg", "png", "bmp", "ppm", "gif")
    assert {"tif", "tiff", "gif", "webp", *map(str.lower, AVIF)} <= set(decode.IMAGE_EXTENSIONS)


def test_other_formats_than_those_are_not_tried():
    with pytest.raises(DataError, match="ICO file"):
        decode_image(encoded(PHOTO, "ICO"))
    for form in ("PCX", "SGI", "TGA", "DDS"):
        with pytest.raises(DataError, match="no image in a format that is read"):
            decode_image(encoded(PHOTO, form))


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
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", *AVIF])
def test_a_truncated_image_is_an_error(keep, form):
    data = encoded(PHOTO, form)
    with pytest.raises(DataError):
        decode_image(data[: int(keep * len(data)) if isinstance(keep, float) else keep])


def test_random_bytes_are_an_error():
    rng = np.random.default_rng(0)
    starts = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF89a", b"BM", b"P6", b"II*\0",
              b"MM\0*\0\0\0\x08", b"\0\0\0\x20ftypavif")  # fmt: skip
    for start in starts:
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


@pytest.mark.parametrize("form", ["GIF", "BMP", "PPM", "TIFF", "WEBP", *AVIF])
@pytest.mark.parametrize("side", [10_500, 16_000])
def test_a_bomb_of_every_format_is_an_error(form, side):
    """The sizes that a small file declares are overwritten with large ones."""
    small = Image.new("RGB", (64, 48))
    data = bytearray(encoded(small, form, **({"lossless": True} if form == "WEBP" else {})))
    if form == "GIF":
        data[6:10] = struct.pack("<HH", side, side)
    elif form == "BMP":
        data[18:26] = struct.pack("<ii", side, side)
    elif form == "PPM":
        data = data.replace(b"64 48", f"{side} {side}".encode(), 1)
    elif form == "TIFF":
        for tag in (256, 257):
            entry = data.index(struct.pack("<HHI", tag, 4, 1))
            data[entry + 8 : entry + 12] = struct.pack("<I", side)
    elif form == "WEBP":
        header = data.index(b"VP8L") + 9
        data[header : header + 4] = struct.pack("<I", side - 1 | side - 1 << 14)
    else:
        data = data.replace(struct.pack(">II", 64, 48), struct.pack(">II", side, side))
    with pytest.raises(DataError, match=r"pixels|AVIF"):
        decode_image(bytes(data))


def tiff(order: str, tags: dict[int, int], bits: int, content: bytes) -> bytes:
    """A TIFF of three channels as its specification has it, which Pillow's own writer does not write."""
    tags = {256: 4, 257: 4, 258: 200, 259: 1, 262: 2, 277: 3, **tags}
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, value in sorted(tags.items()):
        data += struct.pack(f"{order}HHI", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1)
        data += struct.pack(f"{order}I", value)
    return data.ljust(200, b"\0") + struct.pack(f"{order}3H", bits, bits, bits) + content


@pytest.mark.parametrize("side", [16, 20_000])
def test_a_tiff_of_tiles_that_are_larger_than_its_image(side):
    """libtiff would make room for a whole tile, and fill it from a thousand times fewer bytes."""
    content = zlib.compress(bytes(16 * 16 * 3))
    data = tiff("<", {259: 8, 322: side, 323: side, 324: 206, 325: len(content)}, 8, content)
    if side == 16:
        assert not pixels(data).any()
        return
    with pytest.raises(DataError, match="20000 x 20000 pixels"):
        decode_image(data)


def test_sixteen_bits_a_channel_are_an_error():
    deep = Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16))
    with pytest.raises(DataError, match="8 bits"):
        decode_image(encoded(deep, "PNG"))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_deep_grey_tiffs_are_an_error(mode):
    with pytest.raises(DataError, match=f"cannot be decoded: has {mode}.* pixels, wanted 8 bits a channel"):
        decode_image(encoded(Image.new(mode, (8, 8), 4000), "TIFF"))


@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_colour_tiffs_are_an_error(order):
    """Pillow would take the upper 8 bits of 16 without a word."""
    data = tiff(order, {273: 206, 278: 4, 279: 96}, 16, bytes(range(96)))
    assert Image.open(io.BytesIO(data)).mode == "RGB"
    with pytest.raises(DataError, match="cannot be decoded: has 16-bit pixels, wanted 8 bits a channel"):
        decode_image(data)
