"""Encoded images and their views, cut where they are decoded. A CPU stands in for the GPU: torchvision knows both."""

import io

import pytest
import torch
import torchvision.io
from PIL import Image

from pld.errors import ConfigError, DataError, UndecodableImageError
from pld.images import Source, open_source
from pld.loading.nvjpeg import EncodedViews, check_device, gpu_view
from pld.views import apply_view
from pld.views.preprocessing import Preprocessing
from tests.making import jpeg, write_tar

CPU = torch.device("cpu")
SIZES = [Preprocessing(input_size=(32, 24)), Preprocessing(input_size=(40, 40), interpolation="bilinear")]


def encoded(image: Image.Image, form: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


PHOTO = Image.open(io.BytesIO(jpeg(0, (90, 120))))
KINDS = {
    "rgb.jpg": jpeg(1, (100, 70)),
    "grey.jpg": encoded(PHOTO.convert("L"), "JPEG"),
    "progressive.jpg": encoded(PHOTO, "JPEG", progressive=True),
    "rgb_inside.jpg": encoded(PHOTO, "JPEG", keep_rgb=True),
    "cmyk.jpg": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "png.png": encoded(PHOTO, "PNG"),
    "small.jpg": jpeg(2, (9, 11)),
}


def source_of(folder, images):
    labels = {name.partition(".")[0] + ".cls": b"0" for name in images}
    return open_source(str(write_tar(folder / "train-0000.tar", images | labels)))


def filled(views: EncodedViews, rows, indexes) -> tuple[torch.Tensor, list[bool]]:
    memory = torch.full((views.num_bytes(rows, len(indexes)) + 1,), 255, dtype=torch.uint8)[1:]  # on no boundary
    return memory, views.write(rows, indexes, memory, lambda row: None)


@pytest.fixture
def given_to_nvjpeg(monkeypatch):
    """How many images it was given, call by call."""
    given = []

    def counting(encoded, *arguments, **settings):
        given.append(len(encoded))
        return decode(encoded, *arguments, **settings)

    decode = torchvision.io.decode_jpeg
    monkeypatch.setattr(torchvision.io, "decode_jpeg", counting)
    return given


def test_views_are_those_of_the_cpu(tmp_path, given_to_nvjpeg):
    source = source_of(tmp_path, KINDS)
    views = EncodedViews(source=source, policy=source.policy)
    rows, indexes = [3, 0, 6, 5, 1, 4, 2], [7, 0]
    memory, good = filled(views, rows, indexes)
    assert good == [True] * 7
    for images, preprocessing in zip(views.cut(rows, 2, memory, SIZES, CPU), SIZES, strict=True):
        assert images.shape == (7, 2, 3, *preprocessing.input_size)
        assert images.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
        for row, cut in zip(rows, images, strict=True):
            image, boxes = source.views(row, indexes, source.policy)
            for box, pixels in zip(boxes, cut, strict=True):
                wanted = apply_view(image, box, preprocessing.input_size, preprocessing.interpolation)
                assert (pixels.int() - wanted.int()).abs().max() <= 2, source.key(row)
    assert given_to_nvjpeg == [3]  # not the progressive one, RGB, CMYK and PNG
    alone = gpu_view(source, 6, 7, source.policy, SIZES[0], CPU)
    assert torch.equal(alone, views.cut(rows, 2, memory, SIZES, CPU)[0][2, 0])


def test_what_nvjpeg_cannot_decode_the_cpu_does(tmp_path, monkeypatch):
    source = source_of(tmp_path, {f"{i}.jpg": jpeg(i) for i in range(5)})
    views = EncodedViews(source=source, policy=source.policy)
    memory, _ = filled(views, range(5), [0])
    wanted = views.cut(range(5), 1, memory, SIZES[:1], CPU)[0]
    refused, decode = source.read(3), torchvision.io.decode_jpeg

    def decode_most(encoded, *arguments, **settings):
        if any(data.numpy().tobytes() == refused for data in encoded):
            raise RuntimeError("nvjpegDecode failed: 8")
        return decode(encoded, *arguments, **settings)

    monkeypatch.setattr(torchvision.io, "decode_jpeg", decode_most)
    assert torch.equal(views.cut(range(5), 1, memory, SIZES[:1], CPU)[0], wanted)


def test_a_full_gpu_is_an_error(tmp_path, monkeypatch):
    source = source_of(tmp_path, {"0.jpg": jpeg(0)})
    views = EncodedViews(source=source, policy=source.policy)
    memory, _ = filled(views, [0], [0])

    def full(*_, **__):
        raise RuntimeError("Error while decoding JPEG images: CUDA out of memory")

    monkeypatch.setattr(torchvision.io, "decode_jpeg", full)
    with pytest.raises(RuntimeError, match="out of memory"):
        views.cut([0], 1, memory, SIZES, CPU)


@pytest.mark.parametrize("bad", [jpeg(9)[:400], b"no image", b""])
def test_bad_images(tmp_path, bad):
    source = source_of(tmp_path, {"a.jpg": jpeg(0), "b.jpg": bad, "c.jpg": jpeg(2)})
    with pytest.raises(UndecodableImageError, match="sample b: cannot be decoded"):
        filled(EncodedViews(source=source, policy=source.policy), range(3), [0])
    skipping = EncodedViews(source=source, policy=source.policy, skip_bad_images=True)
    memory, good = filled(skipping, range(3), [0, 1])
    assert good == [True, False, True]
    (images,) = skipping.cut(range(3), 2, memory, SIZES[:1], CPU)
    assert torch.equal(images[2, 1], gpu_view(source, 2, 1, source.policy, SIZES[0], CPU))
    assert not images[1].any()
    memory, good = filled(skipping, [1], [0])
    assert good == [False]
    assert not skipping.cut([1], 1, memory, SIZES[:1], CPU)[0].any()


def test_a_file_that_grows_or_goes(tmp_path):
    folder = tmp_path / "data" / "dog"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(jpeg(0))
    views = EncodedViews(source=open_source(str(tmp_path / "data")), policy=open_source(str(tmp_path / "data")).policy)
    memory = torch.empty(views.num_bytes([0], 1), dtype=torch.uint8)
    (folder / "a.jpg").write_bytes(jpeg(0) + bytes(100))
    with pytest.raises(DataError, match="sample dog/a: its file grows"):
        views.write([0], [0], memory, lambda row: None)
    (folder / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"a.jpg: sample dog/a: No such file"):
        views.num_bytes([0], 1)


def test_rows_are_told_before_they_are_read(tmp_path, monkeypatch):
    source = source_of(tmp_path, {f"{i}.jpg": jpeg(i) for i in range(3)})
    views, events, read = EncodedViews(source=source, policy=source.policy), [], Source.read
    monkeypatch.setattr(Source, "read", lambda self, row: events.append(("read", row)) or read(self, row))
    memory = torch.empty(views.num_bytes([2, 0], 1), dtype=torch.uint8)
    views.write([2, 0], [0], memory, lambda row: events.append(("told", row)))
    assert events == [("told", 2), ("read", 2), ("told", 0), ("read", 0)]


def test_a_device_that_cannot(monkeypatch):
    with pytest.raises(ConfigError, match="decodes on a GPU, this is cpu; give --decoder cpu"):
        check_device(CPU)

    def missing(*_, **__):
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support\nmore")

    monkeypatch.setattr(torchvision.io, "decode_jpeg", missing)
    with pytest.raises(
        ConfigError, match=r"^--decoder nvjpeg: .*not compiled with nvJPEG support; give --decoder cpu$"
    ):
        check_device(torch.device("cuda:0"))
