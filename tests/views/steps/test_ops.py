"""Each operation gives the pixels of timm's or torchvision's at the same arguments."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torchvision.transforms.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import auto_augment as aa

from pld.views import Op
from pld.views.colours import MEAN_COLOUR
from pld.views.steps import apply_ops
from pld.views.steps.ops import OPERATIONS, operations
from pld.views.steps.pixels import compiled_ops, pillow_ops
from tests.views.steps.images import image, images

FACTORS = st.sampled_from([0.0, 0.1, 1.0, 1.9, 2.0]) | st.floats(0, 2)
NONE = st.just(())
HUES = st.sampled_from([-0.5, 0.0, 0.5]) | st.floats(-0.5, 0.5)

TWINS = {
    "auto_contrast": (aa.auto_contrast, NONE),
    "equalize": (aa.equalize, NONE),
    "invert": (aa.invert, NONE),
    "rotate": (aa.rotate, st.tuples(st.sampled_from([0.0, 1e-9, -30.0, 30.0]) | st.floats(-30, 30))),
    "posterize": (aa.posterize, st.tuples(st.integers(1, 8))),
    "solarize": (aa.solarize, st.tuples(st.integers(0, 256))),
    "solarize_add": (aa.solarize_add, st.tuples(st.integers(0, 110))),
    "color": (aa.color, st.tuples(FACTORS)),
    "contrast": (aa.contrast, st.tuples(FACTORS)),
    "brightness": (aa.brightness, st.tuples(FACTORS)),
    "sharpness": (aa.sharpness, st.tuples(FACTORS)),
    "shear_x": (aa.shear_x, st.tuples(st.sampled_from([0.0, 1e-9]) | st.floats(-0.3, 0.3))),
    "shear_y": (aa.shear_y, st.tuples(st.sampled_from([0.0, 1e-9]) | st.floats(-0.3, 0.3))),
    "translate_x": (aa.translate_x_rel, st.tuples(st.sampled_from([0.0, 0.25]) | st.floats(-0.45, 0.45))),
    "translate_y": (aa.translate_y_rel, st.tuples(st.sampled_from([0.0, 0.25]) | st.floats(-0.45, 0.45))),
    "blur": (aa.gaussian_blur, st.tuples(st.floats(0.1, 2.0))),
    "hue": (lambda picture, shift, **_: F.adjust_hue(picture, shift), st.tuples(HUES)),
}


needs_compiled = pytest.mark.skipif(not compiled_ops.HAS_PIXELS, reason="the compiled part is not there")
LIBRARIES = [
    pytest.param(operations(compiled_ops), id="compiled", marks=needs_compiled),
    pytest.param(operations(pillow_ops), id="pillow"),
]
both_ways = pytest.mark.parametrize("library", LIBRARIES)


def timms(name: str, pixels: np.ndarray, arguments) -> np.ndarray:
    filling = {"fillcolor": MEAN_COLOUR, "resample": Image.Resampling.BICUBIC}
    return np.asarray(TWINS[name][0](Image.fromarray(pixels), *arguments, **filling))


@both_ways
@pytest.mark.parametrize("name", TWINS)
@settings(max_examples=60)
@given(pixels=images, data=st.data())
def test_pixels_are_the_librarys(library, name, pixels, data):
    arguments = data.draw(TWINS[name][1])
    before = pixels.copy()
    found = library[name](pixels, *map(float, arguments))
    assert np.array_equal(found, timms(name, pixels, arguments))
    assert np.array_equal(pixels, before)


USUAL = [("auto_contrast",), ("equalize",), ("rotate", 21.3), ("rotate", -4.0), ("color", 0.3), ("color", 1.7)] + [
    (name, value)
    for name, values in {
        "contrast": (0.3, 1.7),
        "brightness": (0.3, 1.7),
        "sharpness": (0.3, 1.7),
        "shear_x": (0.27, -0.1),
        "shear_y": (0.27, -0.1),
        "translate_x": (0.4, -0.1),
        "translate_y": (0.4, -0.1),
    }.items()
    for value in values
]


@both_ways
@pytest.mark.parametrize("op", USUAL, ids=str)
def test_pixels_are_the_librarys_at_usual_sizes(library, op):
    name, *arguments = op
    for pixels in (image(224, 224, 3, 2), image(160, 199, 4, 1)):
        assert np.array_equal(library[name](pixels, *arguments), timms(name, pixels, arguments))


@given(images, FACTORS)
def test_color_jitter_is_torchvisions(pixels, factor):
    picture = Image.fromarray(pixels)
    for name, twin in {
        "brightness": F.adjust_brightness,
        "contrast": F.adjust_contrast,
        "color": F.adjust_saturation,
    }.items():
        assert np.array_equal(apply_ops(pixels, [Op(name, (factor,))]), np.asarray(twin(picture, factor)))


@given(images)
def test_grey_is_timms(pixels):
    assert np.array_equal(
        apply_ops(pixels, [Op("color", (0.0,))]), np.asarray(aa.desaturate(Image.fromarray(pixels), 1.0))
    )


def test_every_operation_has_a_twin():
    assert {*TWINS, "erase", "erase_with_noise"} == {*OPERATIONS}


def test_no_bits_are_black():
    """As timm had it with earlier Pillows; Pillow 13 refuses 0 bits."""
    assert not apply_ops(image(5, 4, 0, 1), [Op("posterize", (0.0,))]).any()


def test_operations_follow_each_other_in_any_memory_layout():
    pixels = image(31, 17, 1, 1)
    ops = [Op("rotate", (12.0,)), Op("color", (1.4,)), Op("invert"), Op("shear_y", (0.2,))]
    wanted = pixels
    for op in ops:
        wanted = timms(op.name, wanted, op.arguments)
    assert np.array_equal(apply_ops(pixels, ops), wanted)
    assert np.array_equal(apply_ops(np.asfortranarray(pixels), ops), wanted)
    assert np.array_equal(apply_ops(pixels[:, ::-1], ops[1:2]), apply_ops(pixels, ops[1:2])[:, ::-1])
    assert apply_ops(pixels, ops).flags.writeable
    assert apply_ops(pixels, []) is pixels


@needs_compiled
@pytest.mark.parametrize("degrees", [0.0, 90.0, -90.0, 180.0, 360.0, 45.0, 400.0, 1e-300])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (30, 30), (31, 18)])
def test_any_rotation_is_pillows(degrees, size):
    pixels = image(*size, 2, 1)
    assert np.array_equal(compiled_ops.rotate(pixels, degrees), pillow_ops.rotate(pixels, degrees))


matrices = st.tuples(*[st.floats(-3, 3), st.floats(-3, 3), st.floats(-90, 90)] * 2)


@needs_compiled
@given(images, matrices)
def test_any_affine_transform_is_pillows(pixels, matrix):
    assert np.array_equal(compiled_ops.affine(pixels, matrix), pillow_ops.affine(pixels, matrix))


@needs_compiled
@given(images, st.tuples(*[st.floats()] * 6))
def test_no_matrix_reaches_other_memory(pixels, matrix):
    assert compiled_ops.affine(pixels, matrix).shape == pixels.shape


@needs_compiled
@pytest.mark.parametrize("size", [(4, 5), (5, 4), (0, 5), (-4, -4), (2**31 - 1, 2**31 - 1), (2**30, 4)])
def test_memory_of_another_size_is_refused(size):
    pixels, out = image(4, 4, 0, 1), np.empty((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="as large as the image"):
        compiled_ops._pixels.blend_grey(size, pixels.data, out.data, 0.5)
    with pytest.raises(ValueError, match="as large as the image"):
        compiled_ops._pixels.blend_grey((4, 4), pixels.data, out[1:].data, 0.5)


@needs_compiled
def test_all_levels_smoothed_and_blended():
    """Edges between any two levels, and each level beside itself."""
    for level in range(256):
        pixels = np.full((3, 3 * 256, 3), level, np.uint8)
        pixels[1] = np.repeat(np.arange(256), 3)[:, None]
        for factor in (0.0, 0.3, 1.9):
            for name in ("sharpness", "color", "brightness"):
                found, wanted = (getattr(library, name)(pixels, factor) for library in (compiled_ops, pillow_ops))
                assert np.array_equal(found, wanted)


def test_threads_change_nothing():
    ops = [Op("rotate", (12.0,)), Op("color", (1.4,)), Op("sharpness", (0.2,)), Op("equalize")]
    pictures = [image(90, 80, seed, 2) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for found, picture in zip(pool.map(lambda p: apply_ops(p, ops), pictures), pictures, strict=True):
            assert np.array_equal(found, apply_ops(picture, ops))
