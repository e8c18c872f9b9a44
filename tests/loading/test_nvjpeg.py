"""Encoded images and their views, cut where they are decoded. A CPU stands in for the GPU: torchvision knows both."""

import io

import numpy as np
import pytest
import torch
import torchvision.io
from PIL import Image

import pld.loading.nvjpeg
from pld.errors import ConfigError, DataError, UndecodableImageError
from pld.images import Source, open_source
from pld.loading import ViewRequest, decode_views, loading, view_decoder
from pld.loading.nvjpeg import NvjpegViewDecoder, check_device
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


def decoder_of(source, outputs=SIZES, *, skip=False) -> NvjpegViewDecoder:
    decoder = view_decoder(source, source.policy, outputs, gpu=CPU, skip_bad_images=skip)
    assert isinstance(decoder, NvjpegViewDecoder)
    return decoder


def fill(decoder, rows, indexes=(0,)) -> tuple[ViewRequest, torch.Tensor, list]:
    request = ViewRequest(np.asarray(rows), indexes)
    memory = torch.full((decoder.num_bytes(request) + 1,), 255, dtype=torch.uint8)[1:]  # on no boundary
    return request, memory, decoder.fill(request, memory, lambda row: None)


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
    rows, indexes = [3, 0, 6, 5, 1, 4, 2], [7, 0]
    decoder = decoder_of(source)
    filled = fill(decoder, rows, indexes)
    views, good, _ = decoder.views(*filled)
    assert list(map(bool, filled[2])) == good == [True] * 7
    twins = decode_views(view_decoder(source, source.policy, SIZES), rows, indexes)
    for images, wanted, output in zip(views, twins, SIZES, strict=True):
        assert images.shape == (7, 2, 3, *output.input_size)
        assert images.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
        assert (images.int() - wanted.int()).abs().max() <= 2
    assert given_to_nvjpeg == [3]  # not the progressive one, RGB, CMYK and PNG
    assert torch.equal(decode_views(decoder, [6], [7])[0][0, 0], views[0][2, 0])


def test_what_nvjpeg_cannot_decode_the_cpu_does(tmp_path, monkeypatch):
    source = source_of(tmp_path, {f"{i}.jpg": jpeg(i) for i in range(5)})
    decoder = decoder_of(source, SIZES[:1])
    (wanted,) = decode_views(decoder, range(5), [0])
    refused, decode = source.read(3), torchvision.io.decode_jpeg

    def decode_most(encoded, *arguments, **settings):
        if any(data.numpy().tobytes() == refused for data in encoded):
            raise RuntimeError("nvjpegDecode failed: 8")
        return decode(encoded, *arguments, **settings)

    monkeypatch.setattr(torchvision.io, "decode_jpeg", decode_most)
    assert torch.equal(decode_views(decoder, range(5), [0])[0], wanted)


def test_a_full_gpu_is_an_error(tmp_path, monkeypatch):
    decoder = decoder_of(source_of(tmp_path, {"0.jpg": jpeg(0)}))

    def full(*_, **__):
        raise RuntimeError("Error while decoding JPEG images: CUDA out of memory")

    monkeypatch.setattr(torchvision.io, "decode_jpeg", full)
    with pytest.raises(RuntimeError, match="out of memory"):
        decode_views(decoder, [0], [0])


@pytest.mark.parametrize("bad", [jpeg(9)[:400], b"no image", b""])
def test_bad_images(tmp_path, bad):
    source = source_of(tmp_path, {"a.jpg": jpeg(0), "b.jpg": bad, "c.jpg": jpeg(2)})
    with pytest.raises(UndecodableImageError, match="sample b: cannot be decoded"):
        fill(decoder_of(source), range(3))
    skipping = decoder_of(source, SIZES[:1], skip=True)
    filled = fill(skipping, range(3), [0, 1])
    (images,), good, _ = skipping.views(*filled)
    assert list(map(bool, filled[2])) == good == [True, False, True]
    assert torch.equal(images[2, 1], decode_views(skipping, [2], [1])[0][0, 0])
    assert not images[1].any()
    filled = fill(skipping, [1])
    (images,), good, _ = skipping.views(*filled)
    assert list(map(bool, filled[2])) == good == [False]
    assert not images.any()


def test_an_image_that_only_the_gpu_step_finds_bad(tmp_path, monkeypatch):
    """A whole scan is given to nvJPEG; where it and then the CPU refuse it, the image is bad like any other."""
    source = source_of(tmp_path, {f"{name}.jpg": jpeg(i) for i, name in enumerate("abc")})
    damaged, decode_row = source.read(1), pld.loading.nvjpeg.decode_row

    def refuse(*_, **__):
        raise RuntimeError("nvjpegDecode failed: 8")

    def decode(dataset, row, data, *rest):
        if data == damaged:
            raise UndecodableImageError(f"{dataset.where(row)}: cannot be decoded: made up")
        return decode_row(dataset, row, data, *rest)

    monkeypatch.setattr(torchvision.io, "decode_jpeg", refuse)
    monkeypatch.setattr(pld.loading.nvjpeg, "decode_row", decode)
    for workers in ({}, {"processes": 2}):
        with loading(decoder_of(source, skip=True), [ViewRequest(np.arange(3), (0, 1))], **workers) as views:
            (loaded,) = views
        assert loaded.good == [True, False, True]
        with (
            pytest.raises(UndecodableImageError, match="sample b: cannot be decoded"),
            loading(decoder_of(source), [ViewRequest(np.arange(3), (0, 1))], **workers) as views,
        ):
            list(views)


def test_processes_read_and_this_process_decodes(tmp_path):
    """Requests of different sizes, one larger than the first one's block."""
    source = source_of(tmp_path, {f"{i}.jpg": jpeg(i) for i in range(12)})
    requests = [
        ViewRequest(np.arange(3), (0, 1)),
        ViewRequest(np.arange(3, 5), (3,)),
        ViewRequest(np.arange(12), (4, 5)),
    ]
    decoder = decoder_of(source)
    with loading(decoder, requests, processes=2) as views:
        for request, loaded in zip(requests, views, strict=True):
            assert loaded.request is request
            twins = decode_views(decoder, request.rows.tolist(), request.view_indexes)
            for images, wanted in zip(loaded.images, twins, strict=True):
                assert torch.equal(images, wanted)


def test_a_file_that_grows_or_goes(tmp_path):
    folder = tmp_path / "data" / "dog"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(jpeg(0))
    decoder = decoder_of(open_source(str(tmp_path / "data")))
    request = ViewRequest(np.array([0]), (0,))
    memory = torch.empty(decoder.num_bytes(request), dtype=torch.uint8)
    (folder / "a.jpg").write_bytes(jpeg(0) + bytes(100))
    with pytest.raises(DataError, match="sample dog/a: the file is growing"):
        decoder.fill(request, memory, lambda row: None)
    (folder / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"a.jpg: sample dog/a: No such file"):
        decoder.num_bytes(request)
    with (
        pytest.raises(DataError, match="sample dog/a: No such file"),
        loading(decoder, [request], processes=1) as views,
    ):
        list(views)


def test_a_row_is_noted_before_it_is_read(tmp_path, monkeypatch):
    decoder = decoder_of(source_of(tmp_path, {f"{i}.jpg": jpeg(i) for i in range(3)}))
    events, read = [], Source.read
    monkeypatch.setattr(Source, "read", lambda self, row: events.append(("read", row)) or read(self, row))
    request = ViewRequest(np.array([2, 0]), (0,))
    memory = torch.empty(decoder.num_bytes(request), dtype=torch.uint8)
    decoder.fill(request, memory, lambda row: events.append(("noted", row)))
    assert events == [("noted", 2), ("read", 2), ("noted", 0), ("read", 0)]


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
