"""A box of a JPEG is what libjpeg-turbo makes of the whole image, to the last bit, or is left to it."""

import platform
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pld.images.decode import jpeg_box
from pld.images.decode.image import decode_image, jpeg_size
from pld.images.decode.jpeg_box import HAS_BOXES, decode_box
from tests.images.decode.jpeg_blocks import gray_jpeg
from tests.making import encoded, jpeg, with_pillow

needs_boxes = pytest.mark.skipif(not HAS_BOXES, reason="the compiled part is not there")

SIZE = (311, 277)
PHOTO = with_pillow(jpeg(0, SIZE))
TAKEN, LEFT = ("444", "422", "420", "Gray"), ("440", "411")


@st.composite
def boxes(draw):
    top, left = draw(st.integers(0, SIZE[0] - 1)), draw(st.integers(0, SIZE[1] - 1))
    return top, left, draw(st.integers(1, SIZE[0] - top)), draw(st.integers(1, SIZE[1] - left))


def by_simplejpeg(pixels: np.ndarray, sampling: str, quality: int = 90) -> bytes:
    gray = sampling == "Gray"
    return simplejpeg.encode_jpeg(
        pixels[:, :, :1].copy() if gray else pixels,
        quality=quality,
        colorspace="GRAY" if gray else "RGB",
        colorsubsampling=sampling,
    )


def cut(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    top, left, height, width = box
    return image[top : top + height, left : left + width]


ENCODED = {sampling: by_simplejpeg(PHOTO, sampling) for sampling in TAKEN + LEFT}
WHOLE = {sampling: with_pillow(data) for sampling, data in ENCODED.items()}


def test_the_compiled_part_is_there_where_it_can_be():
    flags = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    if platform.machine() == "x86_64" and "avx2" in flags and "bmi2" in flags and shutil.which("cc"):
        assert HAS_BOXES


@needs_boxes
@given(st.sampled_from(TAKEN), boxes())
def test_any_box(sampling, box):
    assert np.array_equal(decode_box(ENCODED[sampling], SIZE, box), cut(WHOLE[sampling], box))


@needs_boxes
@pytest.mark.parametrize("sampling", TAKEN)
def test_every_place_in_a_block(sampling):
    for place in range(64):
        for box in ((place, 64 - place, 100, 90), (64 - place, place, 33 + place, 20 + place), (place, place, 1, 1)):
            assert np.array_equal(decode_box(ENCODED[sampling], SIZE, box), cut(WHOLE[sampling], box)), box


@needs_boxes
@pytest.mark.parametrize("sampling", TAKEN)
@pytest.mark.parametrize("quality", [1, 5, 30, 75, 95, 100])
def test_pixels_of_every_kind_and_quality(sampling, quality):
    """Noise and hard edges reach coefficients, and sums beyond 0 and 255, that photos do not."""
    rng, size = np.random.default_rng(quality), (57, 83)
    edges = np.where(np.add.outer(np.arange(57) // 3, np.arange(83) // 5)[..., None] % 2, 255, 0)
    noise = rng.integers(0, 256, (*size, 3))
    for pixels in (noise, rng.choice([0, 255], (*size, 3)), np.broadcast_to(edges, (*size, 3)), np.full((*size, 3), 7)):
        data = by_simplejpeg(np.ascontiguousarray(pixels, np.uint8), sampling, quality)
        assert np.array_equal(decode_box(data, size, (0, 0, *size)), with_pillow(data))
        assert np.array_equal(decode_box(data, size, (9, 21, 33, 41)), cut(with_pillow(data), (9, 21, 33, 41)))


@needs_boxes
@pytest.mark.parametrize("quantizer", [1, 2])
def test_coefficients_of_every_size(quantizer):
    """Far beyond what pixels have: libjpeg-turbo's sums wrap in 16 bits, and so must ours."""
    rng = np.random.default_rng(quantizer)
    most = rng.choice([1, 30, 300, 1023], (400, 1)) * (rng.random((400, 64)) < rng.random((400, 1)))
    blocks = rng.integers(-most, most + 1)
    blocks[:20] = 1023 * rng.choice([-1, 0, 1], (20, 64))
    data = gray_jpeg(blocks, quantizer)
    size = (8, 8 * len(blocks))
    found = decode_box(data, size, (0, 0, *size))
    assert np.array_equal(found, simplejpeg.decode_jpeg(data))
    assert np.array_equal(found, with_pillow(data))


@needs_boxes
def test_coefficients_that_no_image_has():
    """Those of 8-bit samples are within 2,047; beyond, sums could overflow elsewhere too."""
    block = np.zeros((1, 64), int)
    block[0, 1] = 1023
    assert decode_box(gray_jpeg(block, 2), (8, 8), (0, 0, 8, 8)) is not None
    assert decode_box(gray_jpeg(block, 3), (8, 8), (0, 0, 8, 8)) is None


@needs_boxes
def test_tables_that_libjpeg_refuses():
    """No code is of ones alone."""
    means = bytes([0, 0, 0, 0, 16, *[0] * 12, *range(12), *range(4)])
    data = gray_jpeg(np.zeros((1, 64), int), means=means)
    with pytest.raises(ValueError, match="Huffman"):
        simplejpeg.decode_jpeg(data)
    assert decode_box(data, (8, 8), (0, 0, 8, 8)) is None


@needs_boxes
@pytest.mark.parametrize("sampling", TAKEN)
def test_images_of_every_size(sampling):
    for height in range(8, 36):
        size = (height, 43 - height)
        data = by_simplejpeg(PHOTO[: size[0], : size[1]].copy(), sampling)
        assert np.array_equal(decode_box(data, size, (0, 0, *size)), with_pillow(data)), size


@needs_boxes
@pytest.mark.parametrize(
    "settings",
    [
        {"optimize": True},
        {"comment": b"made up"},
        {"exif": Image.Exif()},
        {"icc_profile": b"x" * 70_000},
    ],
)
def test_what_may_come_before_the_pixels(settings):
    data, box = encoded(Image.fromarray(PHOTO), **settings), (50, 61, 100, 110)
    assert np.array_equal(decode_box(data, SIZE, box), cut(with_pillow(data), box))


def adobe(transform: int) -> bytes:
    """Its segment; 1 says that colours are YCbCr, 0 RGB."""
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


@needs_boxes
@pytest.mark.parametrize(("frame", "segment"), [(b"\xff\xc1", b""), (b"\xff\xc0", adobe(1))])
def test_what_else_is_ordinary(frame, segment):
    at, box = ENCODED["420"].index(b"\xff\xc0"), (50, 61, 100, 110)
    data = ENCODED["420"][:at] + segment + frame + ENCODED["420"][at + 2 :]
    assert np.array_equal(decode_box(data, SIZE, box), cut(with_pillow(data), box))


@needs_boxes
@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(PHOTO), progressive=True),
        encoded(Image.fromarray(PHOTO), restart_marker_rows=1),
        encoded(Image.fromarray(PHOTO), restart_marker_blocks=3),
        encoded(Image.fromarray(PHOTO), keep_rgb=True),
        ENCODED["444"][:2] + adobe(0) + ENCODED["444"][2:],
        *(ENCODED[sampling] for sampling in LEFT),
    ],
)
def test_other_kinds_are_left_to_libjpeg(data):
    box = (50, 61, 100, 110)
    assert decode_box(data, SIZE, box) is None
    assert np.array_equal(decode_image(data, SIZE, box).permute(1, 2, 0).numpy(), cut(with_pillow(data), box))


@needs_boxes
@pytest.mark.parametrize("box", [(90, 31, 120, 101), (0, 0, *SIZE)])
def test_damage_is_judged_by_libjpeg(box):
    """A flipped bit anywhere: a box is what Pillow decodes, or is left to it."""
    data, rng = ENCODED["420"], np.random.default_rng(0)
    told = 0
    for place in rng.integers(0, len(data), 600).tolist():
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        damaged = bytes(flipped)
        found = decode_box(damaged, SIZE, box) if jpeg_size(damaged) == SIZE else None
        told += found is None
        try:
            wanted = with_pillow(damaged)
        except OSError:
            continue  # Pillow cannot read on to the end, which is below
        if found is not None:
            assert np.array_equal(found, cut(wanted, box))
    assert 20 < told < 400


@needs_boxes
def test_images_cut_short():
    data, box = ENCODED["444"], (0, 0, 20, 20)
    assert decode_box(data + bytes(9), SIZE, box) is not None
    for keep in (len(data) - 1, len(data) - 2, len(data) * 3 // 4, 700, 4, 0):
        assert decode_box(data[:keep], SIZE, box) is None


@needs_boxes
def test_bytes_too_many_are_noticed_where_all_is_wanted():
    """As libjpeg does, which warns of them."""
    data = ENCODED["444"][:-2] + bytes(3) + ENCODED["444"][-2:]
    assert decode_box(data, SIZE, (0, 0, 20, 20)) is not None
    assert decode_box(data, SIZE, (0, 0, *SIZE)) is None


@needs_boxes
@pytest.mark.parametrize("box", [(-1, 0, 9, 9), (0, 270, 9, 9), (0, 0, 312, 9), (0, 0, 0, 9), (2**31 - 1, 0, 9, 9)])
def test_boxes_that_are_not_inside(box):
    with pytest.raises(ValueError, match="not inside the image"):
        jpeg_box._box.decode(ENCODED["444"], SIZE, box, bytearray(3 * max(box[2], 0) * box[3]))


@needs_boxes
def test_memory_of_another_size():
    with pytest.raises(ValueError, match="not as large as the box"):
        jpeg_box._box.decode(ENCODED["444"], SIZE, (0, 0, 9, 9), bytearray(3 * 9 * 9 - 1))
    assert not jpeg_box._box.decode(ENCODED["444"], (310, 277), (0, 0, 9, 9), bytearray(3 * 9 * 9))


@needs_boxes
def test_threads_do_not_share_anything():
    def decode(number: int) -> bool:
        sampling, box = TAKEN[number % 4], (number % 100, number % 90, 60 + number % 50, 70)
        return np.array_equal(decode_box(ENCODED[sampling], SIZE, box), cut(WHOLE[sampling], box))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(decode, range(600)))


def test_without_the_compiled_part(monkeypatch):
    monkeypatch.setattr(jpeg_box, "HAS_BOXES", False)
    for sampling, data in ENCODED.items():
        assert decode_box(data, SIZE, (9, 9, 80, 70)) is None
        for box in ((9, 19, 80, 70), (200, 0, 111, 277), None):
            found = decode_image(data, SIZE, box).permute(1, 2, 0).numpy()
            assert np.array_equal(found, cut(WHOLE[sampling], box or (0, 0, *SIZE)))


ROOT = Path(__file__).parents[3]
CC = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-mavx2", "-mbmi", "-mbmi2"]
SANITIZED = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@needs_boxes
@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_the_compiler_has_nothing_to_say():
    module = str(ROOT / "pld/images/decode/native/module.c")
    subprocess.run([*CC, "-fsyntax-only", "-isystem", sysconfig.get_path("include"), module], check=True)


@needs_boxes
@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
@pytest.mark.parametrize("rounds", [200, pytest.param(20_000, marks=pytest.mark.long)])
def test_hostile_images_touch_no_memory_of_others(tmp_path, rounds):
    """Changed bytes, lengths and ends, in memory that the compiler's sanitizers watch."""
    fuzz = str(tmp_path / "fuzz")
    sources = ["-I", str(ROOT / "pld/images/decode/native"), str(ROOT / "tests/images/decode/fuzz_box.c")]
    subprocess.run([*CC, *SANITIZED, *sources, "-o", fuzz], check=True)
    files = []
    for name in TAKEN:
        files.append(tmp_path / f"{name}.jpg")
        files[-1].write_bytes(by_simplejpeg(PHOTO[:61, :83].copy(), name))
    done = subprocess.run([fuzz, str(rounds), *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    taken, left = map(int, done.stdout.split())
    assert taken + left == 4 * rounds
    assert taken > rounds / 20
    assert left > rounds / 20
